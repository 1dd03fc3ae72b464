"""What the tables say of structs is about fields that are there."""

from __future__ import annotations

from meshnode.api.openapi.shapes import REFUSED, REQUIRED, SHAPES


def test_only_fields_that_exist_have_a_shape() -> None:
    for kind, name in (*SHAPES, *REQUIRED):
        assert name in getattr(kind, "__struct_fields__", ()), (kind, name)


def test_nothing_is_served_and_refused_at_once() -> None:
    for kind, refusals in REFUSED.items():
        assert not set(getattr(kind, "__struct_fields__", ())) & set(refusals), kind
