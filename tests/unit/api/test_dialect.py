"""What a dialect may leave out."""

from __future__ import annotations

from meshnode.api.dialect import Dialect
from meshnode.api.embeddings import EmbeddingRenderer
from meshnode.api.embeddings_schema import parse_embedding
from meshnode.api.voice import OPENAI


def test_a_plain_dialect_speaks_as_openai_does_and_prepares_nothing() -> None:
    plain = Dialect("embedding", "embd-", parse_embedding, EmbeddingRenderer)
    assert (plain.voice, plain.prepare, plain.pending) == (OPENAI, None, None)
