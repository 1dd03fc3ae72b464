"""One request of a peer on its way through this node: its body, what it owes, and when it has taken too long. Pure.

A place here is worth something: who holds one without sending, paying or reading loses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from meshnode.errors import DeadlineExceeded, MeshnodeError, PaymentRequired
from meshnode.events import Failed
from meshnode.mesh.settle import Tab
from meshnode.wire import messages as m

BODY_PAUSE_S: Final = 20.0
"""How long a body may stand still on its way."""
BODY_S: Final = 300.0
"""How long a body may take."""
PAY_S: Final = 15.0
"""How long a caller may owe without paying anything; an honest one pays after two seconds."""
READ_S: Final = 120.0
"""How long a caller may have no room for more."""
UNSAID: Final = 16
"""Tokens that an engine may have computed and not told of."""
MOST_TAILS: Final = 64
"""Answers of one ledger key that ended unpaid, in sessions that are over; with more it is served later."""
FORGOTTEN_S: Final = 5.0
"""After so long one such answer is forgotten: an honest caller may crash."""
MOST_DEBTORS: Final = 4096


class Incoming:
    """One request of a session. ``now`` is monotonic."""

    def __init__(self, ask: m.Ask, now: float) -> None:
        self.number = ask.number
        self.terms = m.decode_terms(ask.terms)
        self.tab = Tab(ask.number, self.terms.prices, ask.credit)
        self.body = bytearray()
        self.scope = trio.CancelScope()
        self.closing: Failed | None = None
        """Why it was ended from outside, once it was."""
        self.told_at = now
        self._asked_at = self._part_at = now
        self._owed = _Since(lambda: self.tab.paid if self.tab.owes else None)
        self._full = _Since(lambda: self.tab.delivered if self.tab.room <= UNSAID else None)

    @property
    def whole(self) -> bool:
        """Whether its body is here."""
        return len(self.body) >= self.terms.body_bytes

    def add(self, part: bytes, now: float) -> None:
        """A part of its body came."""
        self.body += part
        self._part_at = now

    def overdue(self, now: float) -> MeshnodeError | None:
        """Why it is to be ended, if it is; to be asked now and then."""
        if not self.whole:
            late = now > self._part_at + BODY_PAUSE_S or now > self._asked_at + BODY_S
            return DeadlineExceeded("the request itself did not arrive in time.") if late else None
        if self._owed.lasts(now) > PAY_S:
            return PaymentRequired(f"what was delivered was not paid for within {PAY_S:g} s.", retry_after_s=2.0)
        if self._full.lasts(now) > READ_S:
            return DeadlineExceeded(f"nobody read the answer for {READ_S:g} s.")
        return None


class _Since:
    """How long something has been so, and the same."""

    def __init__(self, what: Callable[[], object | None]) -> None:
        self._what = what
        self._seen: object | None = None
        self._at = 0.0

    def lasts(self, now: float) -> float:
        """Seconds since it is as it is; 0 while it is not so at all."""
        what = self._what()
        if what is None or what != self._seen:
            self._seen, self._at = what, now
        return 0.0 if what is None else now - self._at


class Debts:
    """Answers that ended unpaid with their session, by ledger key; the keys seen last are remembered."""

    def __init__(self) -> None:
        self._tails: dict[bytes, tuple[float, float]] = {}

    def note(self, key: bytes, tails: int, now: float) -> None:
        """A session ended with so many answers unpaid."""
        if tails <= 0:
            return
        count = self.count(key, now) + tails
        self._tails.pop(key, None)
        self._tails[key] = (count, now)
        if len(self._tails) > MOST_DEBTORS:
            del self._tails[next(iter(self._tails))]

    def count(self, key: bytes, now: float) -> float:
        """How many are not forgotten yet."""
        count, at = self._tails.get(key, (0.0, now))
        return max(0.0, count - (now - at) / FORGOTTEN_S)
