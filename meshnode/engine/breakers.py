"""DRY's sequence breakers: from strings to token sequences, as llama.cpp finds them. Pure.

A breaker is text and may begin in the middle of one token and end in another. So every token of the vocabulary that
holds it whole is a breaker by itself, and every token that ends with the beginning of it is the head of one, the tail
being the rest of the text, tokenised.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST: Final = 40
"""Bytes of a breaker that count (llama.cpp's ``MAX_CHAR_LEN``)."""
LONGEST_TAIL: Final = 20
"""Tokens of a tail that count (llama.cpp's ``MAX_SEQ_LEN``)."""
_REMEMBERED = 32
"""Breakers whose sequences are kept, of one model: callers choose them."""
_BETWEEN = b"\xff"
"""Stands between pieces: no breaker, being UTF-8, holds it."""

Tails = tuple[tuple[int, ...], ...]


class Breakers(NamedTuple):
    """``alone``: the tokens that are breakers by themselves, sorted; ``heads``: of each breaker, token to its tails."""

    alone: NDArray[np.int64]
    heads: tuple[Mapping[int, Tails], ...]
    longest_tail: int

    def are_alone(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which tokens are breakers by themselves."""
        if not self.alone.size:
            return np.zeros(tokens.size, dtype=bool)
        found: NDArray[np.bool_] = self.alone.take(np.searchsorted(self.alone, tokens), mode="clip") == tokens
        return found


NO_BREAKERS: Final = Breakers(np.empty(0, dtype=np.int64), (), 0)


class _Pieces:
    """The pieces of a vocabulary, searchable."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._text = _BETWEEN.join(pieces)
        self._starts = np.cumsum([0, *(len(piece) + 1 for piece in pieces[:-1])])
        backwards = sorted((piece[::-1], token) for token, piece in enumerate(pieces))
        self._backwards = [piece for piece, _ in backwards]
        self._tokens = [token for _, token in backwards]

    def holding(self, text: bytes) -> NDArray[np.int64]:
        """Tokens with ``text`` in them, sorted."""
        places = [found.start() for found in re.finditer(re.escape(text), self._text)]
        return np.unique(np.searchsorted(self._starts, np.array(places, dtype=np.int64), side="right") - 1)

    def ending(self, text: bytes) -> list[int]:
        """Tokens that end with ``text``."""
        first = text[::-1]
        after = first[:-1] + bytes([first[-1] + 1])
        return self._tokens[bisect_left(self._backwards, first) : bisect_left(self._backwards, after)]


class Vocabulary:
    """What the sampler has to know of a model's tokens. One per model: it remembers what it worked out.

    ``piece`` gives the bytes of a token, control tokens included; ``tokenize`` the tokens of a text, none added and
    none read as control tokens. The first breakers of a model cost a call of ``piece`` for each token.
    """

    def __init__(self, n_vocab: int, piece: Callable[[int], bytes], tokenize: Callable[[str], list[int]]) -> None:
        self._n_vocab = n_vocab
        self._piece = piece
        self._tokenize = tokenize
        self._known: dict[bytes, tuple[NDArray[np.int64], Mapping[int, Tails]]] = {}

    @cached_property
    def _pieces(self) -> _Pieces:
        return _Pieces([self._piece(token) for token in range(self._n_vocab)])

    def breakers(self, texts: tuple[str, ...]) -> Breakers:
        """The token sequences that stand for any of ``texts``; empty ones stand for nothing."""
        cut = dict.fromkeys(text.encode("utf-8", "replace")[:LONGEST] for text in texts if text)
        if not cut:
            return NO_BREAKERS
        found = [self._sequences(breaker) for breaker in cut]
        alone = np.unique(np.concatenate([tokens for tokens, _ in found]))
        heads = tuple(heads for _, heads in found if heads)
        lengths = {len(tail) for each in heads for tails in set(each.values()) for tail in tails}
        return Breakers(alone, heads, max(lengths, default=0))

    def _sequences(self, breaker: bytes) -> tuple[NDArray[np.int64], Mapping[int, Tails]]:
        """Tokens that hold one breaker, and heads with their tails; remembered, the longest unused going first."""
        found = self._known.pop(breaker, None) or self._find(breaker)
        self._known[breaker] = found
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    def _find(self, breaker: bytes) -> tuple[NDArray[np.int64], Mapping[int, Tails]]:
        alone = self._pieces.holding(breaker)
        whole, lengths = set(alone.tolist()), dict[int, tuple[int, ...]]()
        for length in range(1, len(breaker)):
            for token in self._pieces.ending(breaker[:length]):
                if token not in whole:
                    lengths[token] = (*lengths.get(token, ()), length)
        tails = {each: self._tails(breaker, each) for each in set(lengths.values())}
        return alone, {token: tails[each] for token, each in lengths.items()}

    def _tails(self, breaker: bytes, lengths: tuple[int, ...]) -> Tails:
        """What is left of a breaker after its first bytes, tokenised."""
        texts = (breaker[length:].decode("utf-8", "replace") for length in lengths)
        return tuple(dict.fromkeys(tuple(self._tokenize(text)[:LONGEST_TAIL]) for text in texts))
