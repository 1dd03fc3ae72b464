"""Templates are filled strictly and once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ImagePart, Message, Role, TextPart
from meshnode.errors import InvalidField
from meshnode.gateway.templates import filled, placeholders


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(role=Role.USER, parts=(TextPart(text),)) for text in texts)


def test_every_place_is_filled() -> None:
    template = said("Hi {{who}}, {{ greeting }}", "{{who}} again, {not} {{1bad}} {{}}")
    assert placeholders(template) == ("who", "greeting")
    expected = said("Hi Ann, hello", "Ann again, {not} {{1bad}} {{}}")
    assert filled(template, {"who": "Ann", "greeting": "hello"}) == expected


def test_what_is_no_text_stays() -> None:
    message = Message(role=Role.USER, parts=(ImagePart("data:,{{who}}"), TextPart("{{who}}")))
    (done,) = filled((message,), {"who": "Ann"})
    assert done.parts == (ImagePart("data:,{{who}}"), TextPart("Ann"))


@pytest.mark.parametrize(
    ("variables", "words", "param"),
    [
        ({}, "has a place for who, which is missing", "variables.who"),
        ({"who": "a", "odd": "b"}, "has no place for odd", "variables"),
        ({"who": "a"} | {f"v{n}": "" for n in range(12)}, "and 4 more", "variables"),
    ],
)
def test_a_typo_is_an_error(variables: dict[str, str], words: str, param: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        filled(said("Hi {{who}}"), variables)
    assert caught.value.param == param


@given(st.text(), st.text())
def test_a_value_brings_no_places_of_its_own(one: str, other: str) -> None:
    (done,) = filled(said("{{a}}|{{b}}"), {"a": "{{b}}" + one, "b": r"\g<0>" + other})
    assert done == said("{{b}}" + one + "|" + r"\g<0>" + other)[0]
