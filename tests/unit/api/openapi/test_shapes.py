"""What the tables say of structs is about fields that are there."""

from __future__ import annotations

from meshnode.api.chat_schema import ChatFields
from meshnode.api.openapi.generating import ChatToTokens
from meshnode.api.openapi.shapes import EITHER, REFUSED, REQUIRED, SHAPES, refusals


def test_only_fields_that_exist_have_a_shape() -> None:
    for kind, name in (*SHAPES, *REQUIRED, *((kind, name) for kind, names in EITHER.items() for name in names)):
        assert name in getattr(kind, "__struct_fields__", ()), (kind, name)


def test_nothing_is_served_and_refused_at_once() -> None:
    for kind in REFUSED:
        assert not set(getattr(kind, "__struct_fields__", ())) & set(refusals(kind)), kind


def test_what_is_made_from_a_body_refuses_the_same() -> None:
    assert set(refusals(ChatToTokens)) == set(refusals(ChatFields))
