"""What keywords come to together."""

from __future__ import annotations

from fractions import Fraction

import pytest

from meshnode.engine.constrain.joint import Joint, digits, joined


@pytest.mark.parametrize(
    ("step", "expected"), [("3", 3), ("2500", 25), ("0.25", 25), ("123.45", 12345), ("1000000000", 1)]
)
def test_digits_are_those_that_are_not_zeros_at_the_ends(step: str, expected: int) -> None:
    assert digits(Fraction(step)) == expected


def test_steps_come_together_as_their_least_common_multiple() -> None:
    schema = {"multipleOf": 0.5, "allOf": [{"multipleOf": 3}, {"$ref": "a"}]}
    assert joined(schema, {"a": {"multipleOf": 0.2}}).step == 3
    assert joined({"multipleOf": 0.5, "allOf": [{"multipleOf": 0.2}]}, {}).step == 1


def test_patterns_add_up_except_in_a_choice() -> None:
    one = {"pattern": "a"}
    assert joined({**one, "allOf": [one, {"$ref": "a"}]}, {"a": one}).patterns == 3
    assert joined({"anyOf": [one, one, {"allOf": [one, one]}]}, {}).patterns == 2


def test_references_in_a_circle_are_followed_once() -> None:
    defs = {"a": {"$ref": "b", "pattern": "x"}, "b": {"$ref": "a"}}
    assert joined({"$ref": "a"}, defs) == Joint(None, 1)
    assert joined(True, defs) == Joint(None, 0)
