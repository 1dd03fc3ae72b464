"""Reads what the processes noted and what their databases hold, and says what does not fit. No clock, no processes.

The names of the checks are those of the design's promises: an acknowledged receipt is never lost (P1), none counts
twice (P2), at most 64 output tokens and one slice of prompt are at risk per request (P3), nobody honest signs what
contradicts itself (P4), a request ends with a word (P5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from harness.diary import (
    HONEST_ENDS,
    Accused,
    Asked,
    Confirmed,
    Delivered,
    Ended,
    Fact,
    Marked,
    Met,
    Paying,
    Row,
    Signed,
    Stored,
)
from harness.parties import PRICES
from meshnode.ledger.pricing import cost
from meshnode.wire.receipt import Receipt, SignedReceipt, content

MOST_OUTPUT: Final = 64
"""Output tokens of a request that may be delivered and not paid: as promised, whatever the code says."""
MOST_PROMPT: Final = 4096
"""Prompt tokens likewise."""
LOST, FELL, UNSIGNED = "acknowledged, later lost", "sequence or total fell", "stored, never signed"
FORKED, TWICE, UNBALANCED = "two bodies of one number", "paid for what was not delivered", "books do not add up"
AT_RISK, SILENT, ACCUSED = "more at risk than allowed", "answers that ended in silence", "accused an honest peer"
DAMAGED, STUCK, DIED = "database damaged", "did not come back", "died by itself"
CHECKS: Final = (
    LOST, FELL, UNSIGNED, FORKED, TWICE, UNBALANCED, AT_RISK, SILENT, ACCUSED, DAMAGED, STUCK, DIED,
)  # fmt: skip
"""What must never happen."""


class Stake(NamedTuple):
    """What was delivered of a request and never paid: tokens."""

    request: str
    prompt: int
    output: int
    cut: bool
    """Whether a kill ended it; the others finished, or their reader left."""


class _Side:
    """One process: what it acknowledged and what its database held when it was last looked at."""

    def __init__(self) -> None:
        self.stored: dict[int, Stored] = {}
        self.confirmed: dict[int, int] = {}
        self.rows: Mapping[int, Row] = {}


class Judge:
    """Takes facts in the order of each diary, the consumer's before the provider's, and rows of databases."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Breaches by check."""
        self.examples: list[str] = []
        """Breaches in words; the first of each check."""
        self.ends: dict[str, Ended | None] = {}
        """How each request ended for its reader; None where the reader was killed first."""
        self.asked: dict[str, float] = {}
        """When each request was begun."""
        self.most_at_risk = Stake("", 0, 0, False)
        """The most that was delivered and not stored as paid at any moment, of one request."""
        self.receipts: Counter[str] = Counter()
        """Receipts acknowledged, by role."""
        self.brought = self.unseen = 0
        """Receipts that the provider got only by a greeting; receipts that were signed, and then not stored."""
        self._sides = {"consumer": _Side(), "provider": _Side()}
        self._signed: dict[tuple[int, int], bytes] = {}
        self._latest: dict[int, Receipt] = {}
        self._marks: dict[tuple[int, int], tuple[Marked, ...]] = {}
        self._paying: tuple[Marked, ...] = ()
        self._delivered: dict[str, Marked] = {}
        self._taken: dict[str, Marked] = {}
        self._taken_by_tick: set[tuple[int, int]] = set()

    def breach(self, check: str, what: str) -> None:
        """Count a breach."""
        self.counts[check] += 1
        if self.counts[check] == 1:
            self.examples.append(f"{check}: {what}")

    # --- facts --------------------------------------------------------------------------------

    def take(self, role: str, facts: Iterable[Fact]) -> None:
        """What a process noted."""
        side = self._sides[role]
        for fact in facts:
            match fact:
                case Stored():
                    self._acknowledged(role, side, fact)
                case Confirmed():
                    side.confirmed[fact.chan] = max(fact.uc, side.confirmed.get(fact.chan, 0))
                case Met():
                    self.look(role, fact.rows)
                case Paying():
                    self._paying = fact.marks
                case Signed():
                    self._sign(fact.body)
                case Delivered():
                    self._deliver(fact.mark)
                case Asked():
                    self.asked[fact.request], self.ends[fact.request] = fact.at, None
                case Ended():
                    self.ends[fact.request] = fact
                    if fact.how.partition(":")[0] not in HONEST_ENDS:
                        self.breach(SILENT, f"request {fact.request}: {fact.how}")
                case Accused():
                    self.breach(ACCUSED, f"by the {role}: {fact.reason}")

    def _acknowledged(self, role: str, side: _Side, fact: Stored) -> None:
        self.receipts[role] += 1
        before = side.stored.get(fact.chan)
        if before is not None and (fact.seq < before.seq or _fell(_totals(before), _totals(fact))):
            self.breach(FELL, f"{role} acknowledged {fact} after {before}")
        side.stored[fact.chan] = fact
        if role == "provider":
            self._taken_by_tick.add((fact.chan, fact.seq))
            for mark in self._marks.get((fact.chan, fact.seq), ()):
                self._taken[mark.request] = mark

    def _sign(self, body: bytes) -> None:
        receipt = content(SignedReceipt(body, b""))
        key, latest = (receipt.chan, receipt.seq), self._latest.get(receipt.chan)
        if self._signed.setdefault(key, body) != body:
            self.breach(FORKED, f"channel {receipt.chan}, number {receipt.seq}")
        if latest is not None and (receipt.seq <= latest.seq or _fell(_signed_totals(latest), _signed_totals(receipt))):
            self.breach(FORKED, f"channel {receipt.chan}: {receipt.seq} was signed after {latest.seq}, or for less")
        self._latest[receipt.chan] = receipt
        self._marks[key], self._paying = self._paying, ()

    def _deliver(self, mark: Marked) -> None:
        self._delivered[mark.request] = mark
        paid = self._taken.get(mark.request, Marked("", 0, 0, 0))
        prompt, output = mark.prompt - paid.prompt, mark.output - paid.output
        most = self.most_at_risk
        self.most_at_risk = Stake("", max(prompt, most.prompt), max(output, most.output), False)
        if prompt > MOST_PROMPT or output > MOST_OUTPUT:
            self.breach(AT_RISK, f"request {mark.request}: {prompt} prompt tokens, {output} output tokens")

    # --- databases ----------------------------------------------------------------------------

    def look(self, role: str, rows: Sequence[Row]) -> None:
        """What the database of a process holds, after all it had acknowledged by then."""
        side, found = self._sides[role], {row.chan: row for row in rows}
        for chan, stored in side.stored.items():
            row = found.get(chan)
            if row is None or row.seq < stored.seq or _fell(_totals(stored), _totals(row)):
                self.breach(LOST, f"{role} acknowledged {stored}, and {row} is stored")
        for chan, confirmed_uc in side.confirmed.items():
            if chan not in found or found[chan].confirmed_uc < confirmed_uc:
                self.breach(LOST, f"{role} acknowledged {confirmed_uc} µc confirmed, and {found.get(chan)} is stored")
        for chan, before in side.rows.items():
            row = found.get(chan)
            if row is None or row.seq < before.seq or _fell(_totals(before), _totals(row)):
                self.breach(FELL, f"{role} held {before}, and now {row}")
        for row in found.values():
            body = self._signed.get((row.chan, row.seq))
            if body is None or _signed_totals(content(SignedReceipt(body, b""))) != _totals(row):
                self.breach(UNSIGNED, f"{role} holds {row}")
        side.rows = found

    # --- in the end ---------------------------------------------------------------------------

    def close(self) -> list[Stake]:
        """Both are settled: do the books add up? Gives what was never paid, of each request that got anything."""
        ours, theirs = self._sides["consumer"].rows, self._sides["provider"].rows
        if ours != theirs:
            differ = [chan for chan in {*ours, *theirs} if ours.get(chan) != theirs.get(chan)]
            self.breach(UNBALANCED, f"{len(differ)} channels differ: {ours.get(differ[0])}, {theirs.get(differ[0])}")
        paid = self._paid(ours)
        signed_uc = sum(row.uc for row in ours.values())
        marks = list(paid.values())
        by_marks = (sum(map(_cost, marks)), sum(m.prompt + m.cached for m in marks), sum(m.output for m in marks))
        by_rows = (signed_uc, sum(row.prompt for row in ours.values()), sum(row.output for row in ours.values()))
        if (*by_marks, len(marks)) != (*by_rows, sum(row.requests for row in ours.values())):
            self.breach(TWICE, f"{by_rows} were signed for, and {by_marks} is what the requests paid for come to")
        if signed_uc > (due := sum(map(_cost, self._delivered.values()))):
            self.breach(TWICE, f"{signed_uc} µc were signed for what comes to {due}")
        kept = {(chan, seq) for chan, seq in self._signed if chan in ours and seq <= ours[chan].seq}
        self.brought, self.unseen = len(kept - self._taken_by_tick), len(self._signed.keys() - kept)
        return [self._stake(request, mark, paid) for request, mark in self._delivered.items()]

    def _paid(self, rows: Mapping[int, Row]) -> dict[str, Marked]:
        """How far each request is paid by the receipts that are stored."""
        paid: dict[str, Marked] = {}
        for (chan, seq), marks in sorted(self._marks.items()):
            if chan in rows and seq <= rows[chan].seq:
                paid |= {mark.request: mark for mark in marks if not _behind(mark, paid.get(mark.request))}
        for request, mark in paid.items():
            if _behind(self._delivered.get(request, Marked("", 0, 0, 0)), mark):
                self.breach(TWICE, f"{mark} was paid, and {self._delivered.get(request)} was delivered")
        return paid

    def _stake(self, request: str, mark: Marked, all_paid: Mapping[str, Marked]) -> Stake:
        paid, end = all_paid.get(request, Marked("", 0, 0, 0)), self.ends.get(request)
        cut = end is None or end.how.startswith(("failed", "refused"))
        stake = Stake(request, mark.prompt - paid.prompt, mark.output - paid.output, cut)
        if stake.prompt > MOST_PROMPT or stake.output > MOST_OUTPUT:
            self.breach(AT_RISK, f"after settling, {stake}")
        return stake


def _cost(mark: Marked) -> int:
    return cost(PRICES, prompt=mark.prompt, cached=mark.cached, output=mark.output)


def _totals(of: Row | Stored) -> tuple[int, ...]:
    return (of.uc, of.prompt, of.output, of.requests)


def _signed_totals(receipt: Receipt) -> tuple[int, ...]:
    return (receipt.cum_uc, receipt.cum_in, receipt.cum_out, receipt.n_req)


def _fell(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return any(now < then for then, now in zip(before, after, strict=True))


def _behind(mark: Marked, other: Marked | None) -> bool:
    if other is None:
        return False
    return _fell((other.prompt, other.cached, other.output), (mark.prompt, mark.cached, mark.output))
