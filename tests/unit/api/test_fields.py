"""Naming what is wrong with a field."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from meshnode.api.fields import check_names, convert, integer, invalid, join, never, number, only, text, without_effect
from meshnode.errors import InvalidField, UnknownField, UnsupportedParameter


class Inner(msgspec.Struct):
    flag: bool | None = None
    anchor: Literal["begin", "end"] | None = None


class Sample(msgspec.Struct):
    name: Annotated[str, text(5)]
    size: Annotated[int, integer(1, 9)] | None = None
    heat: Annotated[float, number(0, 2)] | None = None
    inner: Inner | None = None
    messages: list[int] | None = None


REFUSED = {"n": only(1), "tools": only([]), "audio": never(), "tau": without_effect()}


def test_known_fields_and_neutral_values_pass() -> None:
    check_names({"name": "x", "n": 1, "tools": [], "audio": None, "tau": 3}, Sample, REFUSED)


@pytest.mark.parametrize(("name", "value"), [("n", 2), ("n", True), ("n", "1"), ("tools", [{}]), ("audio", {})])
def test_a_documented_field_that_would_change_the_answer_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        check_names({name: value}, Sample, REFUSED)
    assert caught.value.param == name


def test_an_unknown_field_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownField, match="Did you mean name") as caught:
        check_names({"nmae": 1}, Sample, REFUSED, path="outer")
    assert caught.value.param == "outer.nmae"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "name", "name is missing. Allowed: a string of at most 5 characters"),
        ({"name": 3}, "name", "name: 3 is not allowed. Allowed: a string of at most 5"),
        ({"name": "abcdef"}, "name", '"abcdef" is not allowed'),
        ({"name": "a", "size": 10}, "size", "size: 10 is not allowed. Allowed: a whole number from 1 to 9"),
        ({"name": "a", "size": 1.5}, "size", "1.5"),
        ({"name": "a", "size": True}, "size", "true"),
        ({"name": "a", "heat": 2.5}, "heat", "a number from 0 to 2"),
        ({"name": "a", "inner": {"flag": 1}}, "inner.flag", "1 is not allowed. Allowed: true or false"),
        ({"name": "a", "inner": {"anchor": "x" * 99}}, "inner.anchor", "is not allowed. Allowed: begin or end."),
        ({"name": "a", "messages": [1, "secret"]}, "messages[1]", "a string is not allowed"),
    ],
)
def test_a_wrong_value_names_field_value_and_what_is_allowed(fields: dict[str, object], param: str, said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        convert(fields, Sample)
    assert caught.value.param == param
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_null_counts_as_absent() -> None:
    assert convert({"name": "a", "size": None}, Sample).size is None


def test_content_is_named_by_kind_only_but_a_role_may_be_shown() -> None:
    assert "secret" not in str(invalid("messages[0].content", "secret", "text"))
    assert "secret" not in str(invalid("prompt", ["secret"], "text"))
    assert '"wizard"' in str(invalid("messages[0].role", "wizard", "user"))
    assert "my secret" not in str(invalid("messages[0].role", "my secret", "user"))


def test_names_in_paths_are_printable_and_short() -> None:
    assert join("a", "b\n\x1b[31m") == "a.b??[31m"
    assert len(join("", "x" * 500)) == 64
