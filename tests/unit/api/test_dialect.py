"""What a dialect may leave out."""

from __future__ import annotations

from meshnode.api.app import DIALECTS, EMBEDDING
from meshnode.api.voice import OPENAI


def test_a_plain_dialect_speaks_as_openai_does_and_prepares_nothing() -> None:
    assert (EMBEDDING.voice, EMBEDDING.prepare, EMBEDDING.pending) == (OPENAI, None, None)


def test_every_dialect_is_kept_under_a_name_of_its_own() -> None:
    assert len({dialect.name for dialect in DIALECTS.values()}) == len(DIALECTS)
