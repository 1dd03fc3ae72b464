"""Refusals: whose fault, and what they say."""

from __future__ import annotations

from meshnode.engine.constrain.refuse import not_held, too_complex, wrong
from meshnode.errors import InvalidField, UnsupportedParameter


def test_what_is_wrong_names_its_place() -> None:
    error = wrong("json_schema: type at #/properties/a", "must be a string", "Write one.")
    assert isinstance(error, InvalidField)
    assert str(error) == "json_schema: type at #/properties/a: must be a string. Write one."


def test_what_is_not_held_says_why_and_what_to_do() -> None:
    error = not_held("json_schema: not at #", "nothing can be excluded")
    assert isinstance(error, UnsupportedParameter)
    assert error.status == 400
    assert str(error).startswith("json_schema: not at # cannot be held: nothing can be excluded. Leave it out")


def test_too_much_has_a_hint() -> None:
    assert str(too_complex("regex", "9 of 8")) == (
        "regex is too complex: 9 of 8. Make the constraint smaller or simpler."
    )
