"""What the tables say of structs is about fields that are there."""

from __future__ import annotations

from meshnode.api.openapi.shapes import EITHER, REQUIRED, SHAPES


def test_only_fields_that_exist_have_a_shape() -> None:
    for kind, name in (*SHAPES, *REQUIRED, *((kind, name) for kind, names in EITHER.items() for name in names)):
        assert name in getattr(kind, "__struct_fields__", ()), (kind, name)
