"""Vectors without a model: deterministic, a function of every token and of its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meshnode.engine.vectors import EmbeddingShape, Piece, Vector

WIDTH = 32


class FakeEmbedding:
    """A :class:`meshnode.engine.vectors.EmbeddingBackend` over ``n_vocab`` tokens; ``whole`` as an encoder is."""

    def __init__(
        self, n_vocab: int, longest: int, *, rows: int = 512, sequences: int = 64, whole: bool = False
    ) -> None:
        self._n_vocab = n_vocab
        self._shape = EmbeddingShape(WIDTH, longest, max(rows, longest) if whole else rows, sequences, whole)
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._counts: dict[int, int] = {}
        self._open = False
        self.batches: list[tuple[Piece, ...]] = []
        """Every batch that was computed, for tests to look at."""

    @property
    def shape(self) -> EmbeddingShape:
        """As it was made."""
        return self._shape

    @property
    def idle_memory(self) -> bool:
        """Whether anything was embedded since the last release."""
        return self._open

    def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
        """The mean over an input of one direction for each token and place. Raises ValueError."""
        self._shape.check(pieces, self._n_vocab)
        for piece in pieces:
            if piece.start != self._counts.get(piece.seq, 0):
                raise ValueError(f"a piece does not continue sequence {piece.seq}")
        self._open = True
        self.batches.append(tuple(pieces))
        return [vector for piece in pieces if (vector := self._add(piece)) is not None]

    def forget(self, seq: int) -> None:
        """An input that was begun will not be finished."""
        self._sums.pop(seq, None)
        self._counts.pop(seq, None)

    def release(self) -> None:
        """There is nothing to give back but the word."""
        self._open = False

    def _add(self, piece: Piece) -> Vector | None:
        total = self._sums.get(piece.seq, np.zeros(WIDTH))
        for place, token in enumerate(piece.tokens, piece.start):
            total = total + np.random.default_rng((token, place)).standard_normal(WIDTH)
        self._sums[piece.seq], self._counts[piece.seq] = total, piece.end
        if not piece.last:
            return None
        mean: Vector = (total / self._counts[piece.seq]).astype(np.float32)
        self.forget(piece.seq)
        return mean
