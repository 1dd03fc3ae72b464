"""How much of a request may be computed, said from outside while it is under way. Pure.

A :class:`Gate` is in the hands of whoever knows what is paid for; a :class:`Quota` is the engine's side of it, one for
each attempt at the request. Both speak in totals: saying one twice, late or in another order changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meshnode.engine.pipe import UNLIMITED

MOST = 2**53
"""No total is larger; more than any context holds, and fit for every encoding."""


def _tokens(total: int) -> int:
    """A total within bounds: one below 0 must never be taken for :data:`meshnode.engine.pipe.UNLIMITED`."""
    return min(max(0, total), MOST)


class Gate:
    """The tokens of one request that may be computed: ``prefill`` of its prompt, ``decode`` of its answer.

    Both are totals from the request's beginning and are never lowered; what pre-emption or another attempt recomputes
    is not counted again. The answer is computed only after the whole prompt. Its first token is drawn from the prompt's
    last position: ``decode`` = N lets at most N + 1 tokens out, and 0 one. Up to 15 of these may be unsaid, while they
    end in half a character or in what could become a stop string: who is to hear of so many needs as many more.
    While ``prefill`` is 0 the request waits without a slot, and does not even say ``Started``.
    """

    def __init__(self, prefill: int, decode: int) -> None:
        self._prefill = _tokens(prefill)
        self._decode = _tokens(decode)
        self._changed: Callable[[], None] | None = None

    @property
    def prefill(self) -> int:
        """Tokens of the prompt allowed so far."""
        return self._prefill

    @property
    def decode(self) -> int:
        """Positions of the answer allowed so far."""
        return self._decode

    def allow(self, *, prefill: int | None = None, decode: int | None = None) -> None:
        """Raise the totals, and tell the engine at once; a total that is not above what was allowed is ignored."""
        before = (self._prefill, self._decode)
        self._prefill = max(self._prefill, _tokens(prefill or 0))
        self._decode = max(self._decode, _tokens(decode or 0))
        if (self._prefill, self._decode) != before and self._changed is not None:
            self._changed()

    @contextmanager
    def attached(self, changed: Callable[[], None]) -> Iterator[None]:
        """For the length of the block, ``changed`` is called after each rise of a total.

        One at a time: a request is computed in one place. A later attachment takes the earlier one's.
        """
        self._changed = changed
        try:
            yield
        finally:
            if self._changed is changed:
                self._changed = None


class Quota:
    """What one attempt at a request was granted in all: as much as its reader leaves room for and its gate allows.

    Positions of the answer: min(``window`` + tokens read, gate's ``decode``). Positions of the prompt: the gate's
    ``prefill``. Without a gate nothing but the reader holds it back. ``grant`` is called with each rise, of ``decode``
    and of ``prefill``.
    """

    def __init__(self, window: int, gate: Gate | None, grant: Callable[[int, int], None]) -> None:
        self._room = window
        self._gate = gate
        self._grant = grant
        self.decode = self._allowed()
        """Positions of the answer granted so far."""
        self.prefill = UNLIMITED if gate is None else gate.prefill
        """Positions of the prompt granted so far, or UNLIMITED."""

    def read(self, tokens: int) -> None:
        """So many more tokens were read."""
        self._room += tokens
        self.renew()

    def renew(self) -> None:
        """Grant what is allowed now and was not before."""
        decode = self._allowed() - self.decode
        prefill = 0 if self._gate is None else self._gate.prefill - self.prefill
        self.decode += decode
        self.prefill += prefill
        if decode > 0 or prefill > 0:
            self._grant(decode, prefill)

    def _allowed(self) -> int:
        return self._room if self._gate is None else min(self._room, self._gate.decode)
