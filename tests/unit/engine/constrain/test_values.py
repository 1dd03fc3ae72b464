"""Values of keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshnode.engine.constrain import values
from meshnode.errors import RequestError


@pytest.mark.parametrize(
    ("check", "given", "expected"),
    [
        (values.types, "string", ["string"]),
        (values.types, ["null", "null", "array"], ["null", "array"]),
        (values.strings, ["a", "b", "a"], ["a", "b"]),
        (values.strings, [], []),
        (values.count, 3.0, 3),
        (values.number, -1.5, -1.5),
        (values.step, 0.25, 0.25),
        (values.step, 5.0, 5),
        (values.step, 1e6, 1_000_000),
        (values.mapping, {"a": 1}, {"a": 1}),
        (values.constant, {"a": [1, "b"]}, {"a": [1, "b"]}),
    ],
)
def test_right_ones_come_back_in_one_form(check: Callable[[Any, str], Any], given: Any, expected: Any) -> None:
    assert check(given, "here") == expected


@pytest.mark.parametrize(
    ("check", "given"),
    [
        (values.types, "colour"),
        (values.types, []),
        (values.types, [["string"]]),
        (values.strings, "a"),
        (values.strings, [1]),
        (values.count, -1),
        (values.count, 1.5),
        (values.count, True),
        (values.count, "3"),
        (values.count, 10**9),
        (values.number, True),
        (values.number, "1"),
        (values.number, 2**53 + 1),
        (values.step, 0),
        (values.step, -2),
        (values.step, 999983),
        (values.step, 1e-10),
        (values.step, 2e9),
        (values.mapping, []),
        (values.constant, "a\0b"),
        (values.constant, [{"a": 2**60}]),
    ],
)
def test_wrong_ones_are_refused_where_they_stand(check: Callable[[Any, str], Any], given: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check(given, "keyword at #/a")
    assert caught.value.message.startswith("keyword at #/a")


def test_lists_of_schemas_are_bounded() -> None:
    assert values.subschemas([True], "allOf at #", 1) == [True]
    wrong: list[Any] = [[], {}, [True, True]]
    for given in wrong:
        with pytest.raises(RequestError):
            values.subschemas(given, "allOf at #", 1)


def test_an_enum_keeps_what_its_type_allows() -> None:
    assert values.fitting([1, "a", None, 1, True, 2.0], ["integer", "null"], "enum") == [1, None, 2.0]
    assert values.fitting([1, True, "1"], None, "enum") == [1, True, "1"]
    for given in ([], "a", ["a"], list(range(values.MAX_LISTED + 1))):
        with pytest.raises(RequestError):
            values.fitting(given, ["integer"], "enum")
