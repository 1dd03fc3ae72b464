"""Whether recursion ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from meshnode.engine.constrain.finite import MAX_ROUNDS, endless
from meshnode.errors import InvalidField

SELF: dict[str, Any] = {"$ref": "a"}


@pytest.mark.parametrize(
    "schema",
    [
        SELF,
        {"allOf": [{"type": "string"}, SELF]},
        {"anyOf": [SELF, SELF]},
        {"type": "object", "properties": {"next": SELF}, "required": ["next"]},
        {"type": "object", "additionalProperties": SELF, "minProperties": 1},
        {"type": "array", "items": SELF, "minItems": 1},
        {"type": "array", "prefixItems": [SELF], "minItems": 1},
        False,
    ],
)
def test_what_demands_itself_never_ends(schema: Any) -> None:
    assert endless({"a": schema}, "schema") == ["a"]


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [SELF, {"type": "null"}]},
        {"type": "object", "properties": {"next": SELF}},
        {"type": ["object", "null"], "properties": {"next": SELF}, "required": ["next"]},
        {"type": "array", "items": SELF},
        {"type": "array", "prefixItems": [True], "items": SELF, "minItems": 1},
        {"enum": [1]},
        True,
    ],
)
def test_what_can_stop_ends(schema: Any) -> None:
    assert endless({"a": schema}, "schema") == []


def test_circles_of_several_are_found_and_others_are_not() -> None:
    defs: dict[str, Any] = {
        "a": {"$ref": "b"},
        "b": {"$ref": "a"},
        "c": {"anyOf": [{"$ref": "a"}, {"$ref": "d"}]},
        "d": True,
    }
    assert endless(defs, "schema") == ["a", "b"]


def test_a_chain_in_either_order_takes_two_rounds() -> None:
    chain: dict[str, Any] = {str(number): {"$ref": str(number + 1)} for number in range(2000)}
    chain["2000"] = True
    assert endless(chain, "schema") == []
    assert endless(dict(reversed(chain.items())), "schema") == []


def test_an_order_made_to_take_long_is_refused() -> None:
    length = 4 * MAX_ROUNDS
    order = [number // 2 if number % 2 else length - 1 - number // 2 for number in range(length)]
    defs: dict[str, Any] = {str(number): True for number in range(length)}
    for here, there in pairwise(order):
        defs[str(here)] = {"$ref": str(there)}
    with pytest.raises(InvalidField, match="schema is too complex"):
        endless(defs, "schema")
