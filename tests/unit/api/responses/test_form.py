"""The form of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.responses.form import form
from meshnode.domain import Constraint, ConstraintKind
from meshnode.errors import InvalidField, UnknownField

SCHEMA: dict[str, Any] = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}


def test_without_a_form_there_is_no_constraint() -> None:
    for raw in (None, {}, {"format": {"type": "text"}}):
        assert form(raw) == (None, {"format": {"type": "text"}, "verbosity": "medium"})


def test_a_schema_is_held_and_repeated() -> None:
    found = form({"format": SCHEMA, "verbosity": "low"})
    assert found.constraint == Constraint(
        kind=ConstraintKind.JSON_SCHEMA, source='{"type": "object"}', name="n", strict=True
    )
    assert found.shown == {"format": SCHEMA, "verbosity": "low"}


def test_json_of_any_shape() -> None:
    assert form({"format": {"type": "json_object"}}).constraint == Constraint(kind=ConstraintKind.JSON_OBJECT)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"format": {"type": "xml"}}, "text.format.type"),
        ({"format": {"type": "json_schema", "name": "n"}}, "text.format.schema"),
        ({"format": {"type": "json_schema", "schema": {}}}, "text.format.name"),
        ({"format": {"type": "text", "schema": {}}}, "text.format.schema"),
        ({"verbosity": "loud"}, "text.verbosity"),
        ({"format": SCHEMA | {"schema": {"x": "y" * (1 << 18)}}}, "text.format.schema"),
    ],
)
def test_a_wrong_form_is_named(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        form(raw)
    assert caught.value.param == param


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(UnknownField, match=r"text.format.json_schema"):
        form({"format": {"type": "json_schema", "json_schema": {}}})
