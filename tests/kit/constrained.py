"""Constraints over a vocabulary whose tokens are the bytes: whether a text fits can then be asked letter by letter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.domain import Constraint, ConstraintKind
from meshnode.engine.constrain.matcher import Constrainer, Matcher, Vocabulary
from meshnode.errors import RequestError

ENDS = (256, 257)
"""Tokens that end generation."""

BYTES = Vocabulary(
    n_vocab=258,
    piece=lambda token, special: bytes([token]) if token < 256 else b"<end>" * special,
    ends=frozenset(ENDS),
    eos=256,
    is_control=lambda token: token >= 256,
    tokenize=lambda text: list(text.encode()),
)
CONSTRAINER = Constrainer(BYTES)


def held(kind: ConstraintKind, source: str, *, strict: bool = False) -> Matcher:
    """The matcher of a constraint."""
    return CONSTRAINER.compile(Constraint(kind=kind, source=source, strict=strict))


def by_schema(schema: Any) -> Matcher:
    """The matcher of a JSON schema."""
    return held(ConstraintKind.JSON_SCHEMA, json.dumps(schema))


def fits(matcher: Matcher, text: str) -> bool:
    """Whether the text can be written, and may end there."""
    return writes(matcher.fork(), text, end=True)


def begins(matcher: Matcher, text: str) -> bool:
    """Whether the text can be written, however it goes on."""
    return writes(matcher.fork(), text, end=False)


def writes(matcher: Matcher, text: str, *, end: bool) -> bool:
    """Writes the text byte by byte as far as it goes; ``end`` asks for an end after it."""
    for byte in text.encode():
        if not matcher.mask()[byte]:
            return False
        matcher.accept(byte)
    allowed = matcher.mask()
    assert len({bool(allowed[token]) for token in ENDS}) == 1, "all tokens that end are allowed, or none"
    return bool(allowed[256]) if end else True


def takes(schema: Any, value: Any) -> bool:
    """Whether a schema's matcher lets a value be written."""
    return fits(by_schema(schema), json.dumps(value, ensure_ascii=False))


def refusal(kind: ConstraintKind, source: str, *, strict: bool = False) -> str:
    """The message with which a constraint is refused."""
    with pytest.raises(RequestError) as caught:
        held(kind, source, strict=strict)
    assert caught.value.param == "response_format"
    return caught.value.message
