"""DRY's sequence breakers: from strings to token sequences, as llama.cpp finds them. Pure.

A breaker is text and may begin in the middle of one token and end in another. So every token of the vocabulary that
holds it whole is a breaker by itself, and every token that ends with the beginning of it is the head of one, the tail
being the rest of the text, tokenised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, NamedTuple

LONGEST: Final = 40
"""Bytes of a breaker that count (llama.cpp's ``MAX_CHAR_LEN``)."""
LONGEST_TAIL: Final = 20
"""Tokens of a tail that count (llama.cpp's ``MAX_SEQ_LEN``)."""
_REMEMBERED = 64
"""Breakers whose sequences are kept, of one model: callers choose them."""

Tails = tuple[tuple[int, ...], ...]


class Breakers(NamedTuple):
    """``heads`` maps a token to the tails that make it a breaker; an empty tail says it is one alone."""

    heads: Mapping[int, Tails]
    longest_tail: int


NO_BREAKERS: Final = Breakers({}, 0)


class Vocabulary:
    """What the sampler has to know of a model's tokens. One per model: it remembers what it worked out.

    ``piece`` gives the bytes of a token, control tokens included; ``tokenize`` the tokens of a text, none added and
    none read as control tokens. The first breakers of a model cost a call of ``piece`` for each token.
    """

    def __init__(self, n_vocab: int, piece: Callable[[int], bytes], tokenize: Callable[[str], list[int]]) -> None:
        self._n_vocab = n_vocab
        self._piece = piece
        self._tokenize = tokenize
        self._known: dict[bytes, dict[int, Tails]] = {}

    @cached_property
    def _pieces(self) -> list[bytes]:
        return [self._piece(token) for token in range(self._n_vocab)]

    def breakers(self, texts: tuple[str, ...]) -> Breakers:
        """The token sequences that stand for any of ``texts``; empty ones stand for nothing."""
        heads: dict[int, Tails] = {}
        for text in texts:
            for token, tails in self._sequences(text.encode("utf-8", "replace")[:LONGEST]).items():
                heads[token] = heads.get(token, ()) + tails
        longest = max((len(tail) for tails in heads.values() for tail in tails), default=0)
        return Breakers(heads, longest)

    def _sequences(self, breaker: bytes) -> dict[int, Tails]:
        """Heads and tails of one breaker; remembered, the longest unused going first."""
        found = self._known.pop(breaker, None)
        if found is None:
            found = self._find(breaker) if breaker else {}
        self._known[breaker] = found
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    def _find(self, breaker: bytes) -> dict[int, Tails]:
        first = breaker[:1]
        beginnings = [breaker[:length] for length in range(1, len(breaker))]
        tails: dict[int, tuple[int, ...]] = {}
        found: dict[int, Tails] = {}
        for token, piece in enumerate(self._pieces):
            if first not in piece:
                continue
            if breaker in piece:
                found[token] = ((),)
                continue
            lengths = [len(beginning) for beginning in beginnings if piece.endswith(beginning)]
            for length in lengths:
                if length not in tails:
                    tails[length] = tuple(self._tokenize(breaker[length:].decode("utf-8", "replace"))[:LONGEST_TAIL])
            if lengths:
                found[token] = tuple(dict.fromkeys(tails[length] for length in lengths))
        return found
