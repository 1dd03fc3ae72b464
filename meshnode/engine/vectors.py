"""What embeds: the seam between the engine and a model that makes vectors of texts, and what a finished vector is.

Vectors have length 1 (L2). ``dimensions`` keeps the first so many numbers and makes the length 1 again, which is of use
with models trained for it (Kusupati et al. 2022, "Matryoshka Representation Learning") and allowed with all, as
OpenAI's field of this name does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from meshnode.errors import ModelFailed

Vector = NDArray[np.float32]
"""Shape ``(width,)``."""


class Piece(NamedTuple):
    """Tokens of one input of ``total`` tokens, from its position ``start`` on, in sequence ``seq``.

    An input of more tokens than a batch may have begins in a batch in which no other goes on.
    """

    seq: int
    start: int
    tokens: Sequence[int]
    total: int

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.start + len(self.tokens)

    @property
    def last(self) -> bool:
        """Whether the input ends with it."""
        return self.end == self.total


class EmbeddingShape(NamedTuple):
    """What a model embeds: vectors of ``width`` numbers, of inputs of at most ``longest`` tokens.

    Of a model that ranks, the vector is what it says of a pair of texts, mostly a single number.

    A batch has at most ``rows`` tokens and ``sequences`` pieces. Where ``whole``, a piece must be a whole input (every
    token attends to every other), and ``rows`` is at least ``longest``.
    """

    width: int
    longest: int
    rows: int
    sequences: int
    whole: bool

    def check(self, pieces: Sequence[Piece], n_vocab: int) -> None:
        """Raises ValueError for a batch that no backend of this shape and vocabulary computes."""
        rows = sum(len(piece.tokens) for piece in pieces)
        if not 0 < rows <= self.rows or not all(piece.tokens for piece in pieces):
            raise ValueError(f"a batch of {rows} tokens, or an empty piece; 1 to {self.rows} are possible")
        sequences = {piece.seq for piece in pieces}
        if len(sequences) < len(pieces) or not sequences <= set(range(self.sequences)):
            raise ValueError(f"a batch has two pieces of one sequence, or names one that is not of {self.sequences}")
        for piece in pieces:
            if not piece.end <= piece.total <= self.longest or (self.whole and len(piece.tokens) < piece.total):
                raise ValueError(f"a piece goes beyond {self.longest} tokens, or is no whole input")
            if not all(0 <= token < n_vocab for token in piece.tokens):
                raise ValueError("a batch names a token that does not exist")


class EmbeddingBackend(Protocol):
    """A loaded model as it embeds. Implementations: llama.cpp's and the fake's, under one contract suite."""

    @property
    def shape(self) -> EmbeddingShape:
        """Its bounds; the same for its whole life."""

    @property
    def idle_memory(self) -> bool:
        """Whether :meth:`release` would give any memory back."""

    def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
        """Compute one batch: the pooled vector, not normalised, of each piece that ends its input, in order.

        Raises Aborted or ModelFailed (nothing is kept of the sequences in it), ValueError for what no backend takes.
        """

    def forget(self, seq: int) -> None:
        """An input that was begun will not be finished."""

    def release(self) -> None:
        """Give back what only embedding needs; the next batch takes it again."""


def score_of(pooled: Vector) -> float:
    """What a model that ranks says of a pair: its first number, the higher the better. Raises ModelFailed."""
    score = float(pooled[0])
    if not np.isfinite(score):
        raise ModelFailed("the model's score is not finite.", hint="The model's file may be damaged.")
    return score


def finished_vector(pooled: Vector, dimensions: int | None) -> bytes:
    """The first ``dimensions`` numbers at length 1, as little-endian float32. A vector of zeros stays one.

    Raises ModelFailed where a number is not finite.
    """
    vector = pooled[:dimensions].astype(np.float64)
    norm = float(np.sqrt(vector @ vector))
    if not np.isfinite(norm):
        raise ModelFailed("the model's vector is not finite.", hint="The model's file may be damaged.")
    return (vector / norm if norm else vector).astype("<f4").tobytes()
