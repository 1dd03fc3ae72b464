"""Values of keywords: taken in one form, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshnode.engine.constrain import values
from meshnode.errors import RequestError


@pytest.mark.parametrize(
    ("take", "given", "taken"),
    [
        (values.types, "null", ["null"]),
        (values.types, ["string", "null", "string"], ["string", "null"]),
        (values.strings, ["a", "b", "a"], ["a", "b"]),
        (values.count, 3.0, 3),
        (values.number, -1.5, -1.5),
        (values.step, 0.01, 0.01),
        (values.step, 2.0, 2),
        (values.step, 1000000, 1000000),
        (values.constant, {"a": [1, "x\n", None]}, {"a": [1, "x\n", None]}),
    ],
)
def test_what_is_right_is_taken(take: Callable[[Any, str], Any], given: Any, taken: Any) -> None:
    assert take(given, "x") == taken


@pytest.mark.parametrize(
    ("take", "given"),
    [
        (values.types, []),
        (values.types, "text"),
        (values.types, [["null"]]),
        (values.types, None),
        (values.strings, "a"),
        (values.strings, [1]),
        (values.count, -1),
        (values.count, 1.5),
        (values.count, True),
        (values.count, "3"),
        (values.count, values.MAX_COUNT + 1),
        (values.number, "1"),
        (values.number, False),
        (values.number, 2**53 + 1),
        (values.number, 1e300),
        (values.step, 0),
        (values.step, -1),
        (values.step, 123457),
        (values.step, 1e-10),
        (values.constant, ["a\x00"]),
        (values.constant, {"a": 2**60}),
        (values.mapping, []),
    ],
)
def test_what_is_not_is_refused_with_its_place(take: Callable[[Any, str], Any], given: Any) -> None:
    with pytest.raises(RequestError, match=r"^here"):
        take(given, "here")


def test_lists_of_schemas_are_bounded() -> None:
    assert values.subschemas([True], "x", 1) == [True]
    bad: list[Any] = [[], {}, [True, True]]
    for given in bad:
        with pytest.raises(RequestError, match=r"^here"):
            values.subschemas(given, "here", 1)


def test_an_enum_keeps_what_the_type_allows() -> None:
    assert values.fitting([1, 1.5, "a", 1], ["integer"], "x") == [1]
    assert values.fitting([None, True, 1], None, "x") == [None, True, 1]
    for given in ([], "a", ["a"], list(range(values.MAX_LISTED + 1))):
        with pytest.raises(RequestError, match=r"^here"):
            values.fitting(given, ["null"], "here")
