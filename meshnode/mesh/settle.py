"""What one request owes, seen from both ends: when the caller pays, and how far the provider goes on trust. Pure.

Both ends count the same events with the same :class:`meshnode.ledger.meter.Meter`, so they agree on what was delivered
without a word. The caller pays after every :data:`TICK_TOKENS` tokens or :data:`TICK_S`, and after each
:data:`SLICE` of a long prompt; the provider computes at most :data:`WINDOW` tokens and one slice ahead of what is paid.
So a provider risks that much per request, and a caller nothing: it pays for what it has.
"""

from __future__ import annotations

from typing import Final

from meshnode.engine.gate import Gate
from meshnode.errors import ProtocolViolation
from meshnode.events import CLOSING, Event
from meshnode.ledger.book import Totals
from meshnode.ledger.meter import Meter
from meshnode.ledger.pricing import cost
from meshnode.wire.fields import Prices
from meshnode.wire.messages import Mark

TICK_TOKENS: Final = 32
TICK_S: Final = 2.0
SLICE: Final = 4096
"""Prompt tokens that are computed before they are paid for."""
WINDOW: Final = 2 * TICK_TOKENS
"""Output tokens that are computed before they are paid for."""
URGENT: Final = WINDOW * 3 // 4
"""Unpaid tokens from which on a provider may soon stand still for want of a tick."""


class Account:
    """One request's count and how far it is paid. ``number`` is the request's in its session."""

    def __init__(self, number: int, prices: Prices) -> None:
        self.number = number
        self.closed = False
        """Whether its last event was taken."""
        self._prices = prices
        self._meter = Meter()
        self._paid = Mark(number, 0, 0, 0)
        self._paid_uc = 0

    def take(self, event: Event) -> None:
        """Count an event that was delivered."""
        self._meter.take(event)
        self.closed = self.closed or isinstance(event, CLOSING)

    @property
    def unpaid_output(self) -> int:
        """Output tokens delivered and not paid for."""
        return self._meter.output - self._paid.output

    @property
    def unpaid_prompt(self) -> int:
        """Prompt tokens computed and not paid for."""
        return self._meter.prompt - self._paid.prompt

    @property
    def owes(self) -> bool:
        """Whether anything delivered is not paid for."""
        meter, paid = self._meter, self._paid
        return meter.output != paid.output or meter.prompt != paid.prompt or meter.cached != paid.cached

    @property
    def cost_uc(self) -> int:
        """What was delivered comes to."""
        now = self.mark()
        return cost(self._prices, prompt=now.prompt, cached=now.cached, output=now.output)

    @property
    def next_uc(self) -> int:
        """What it will come to when one more token of the answer has come."""
        prompt, cached, output = self._meter.ahead()
        return cost(self._prices, prompt=prompt, cached=cached, output=output)

    @property
    def paid_uc(self) -> int:
        """How much of it is paid."""
        return self._paid_uc

    @property
    def paid(self) -> Mark:
        """How far it is paid."""
        return self._paid

    def mark(self) -> Mark:
        """How far it should be paid now."""
        meter = self._meter
        return Mark(self.number, meter.prompt, meter.cached, meter.output)

    def settle(self, mark: Mark) -> Totals:
        """Count it as paid up to ``mark``; gives what that adds to the channel's totals.

        Raises ProtocolViolation when the mark is behind what was paid, or ahead of what was delivered.
        """
        paid, now = self._paid, self.mark()
        for before, asked, most in zip(_counts(paid), _counts(mark), _counts(now), strict=True):
            if not before <= asked <= most:
                raise ProtocolViolation("a tick pays for more than was delivered, or takes a payment back.")
        total_uc = cost(self._prices, prompt=mark.prompt, cached=mark.cached, output=mark.output)
        more = Totals(
            uc=total_uc - self._paid_uc,
            prompt=mark.prompt + mark.cached - paid.prompt - paid.cached,
            output=mark.output - paid.output,
            requests=1 if _counts(paid) == (0, 0, 0) and _counts(mark) != (0, 0, 0) else 0,
        )
        self._paid, self._paid_uc = mark, total_uc
        return more


class Bill(Account):
    """The caller's side: when it is time to pay. Times are the clock's; ``receipt`` is the caller's id of it."""

    def __init__(self, number: int, prices: Prices, receipt: str = "") -> None:
        super().__init__(number, prices)
        self.receipt = receipt
        self._since: float | None = None

    def note(self, event: Event, now: float) -> None:
        """Count an event that came."""
        self.take(event)
        if self._since is None and self.owes:
            self._since = now

    def due_at(self) -> float | None:
        """When the next tick must be on its way; None when nothing is owed, -inf for at once."""
        if not self.owes:
            return None
        if self.closed or self.unpaid_output >= TICK_TOKENS or self.unpaid_prompt >= SLICE:
            return float("-inf")
        return (self._since or 0.0) + TICK_S

    @property
    def urgent(self) -> bool:
        """Whether the provider may stand still until it is paid."""
        return self.unpaid_output >= URGENT or self.unpaid_prompt >= SLICE

    def pay(self) -> tuple[Mark, Totals]:
        """Settle all that is owed now."""
        mark = self.mark()
        self._since = None
        return mark, self.settle(mark)


class Tab(Account):
    """The provider's side: how far the engine may go. Its gate is handed to the engine."""

    def __init__(self, number: int, prices: Prices, credit: int) -> None:
        super().__init__(number, prices)
        self._credit = credit
        self._stored = self.paid
        self.gate = Gate(SLICE, self._decode())

    @property
    def delivered(self) -> int:
        """Output tokens delivered."""
        return self._meter.output

    @property
    def room(self) -> int:
        """Output tokens that the caller's reader has room for."""
        return self._credit - self._meter.output

    def grant(self, tokens: int) -> None:
        """The caller's reader has room for so many more tokens."""
        self._credit += tokens
        self._open()

    def credited(self, mark: Mark) -> Totals:
        """A tick pays up to ``mark``; let the engine go on only once it is stored (:meth:`release`)."""
        return self.settle(mark)

    def release(self) -> None:
        """What was paid is on the disk: go on."""
        self._stored = self.paid
        self._open()

    def _open(self) -> None:
        stored = self._stored  # a grant may come while a tick is on its way to the disk
        self.gate.allow(prefill=stored.prompt + stored.cached + SLICE, decode=self._decode())

    def _decode(self) -> int:
        """The first token comes with the prompt, so one less is allowed than may be delivered."""
        return max(0, min(self._credit, self._stored.output + WINDOW) - 1)


def _counts(mark: Mark) -> tuple[int, int, int]:
    return (mark.prompt, mark.cached, mark.output)
