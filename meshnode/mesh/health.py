"""How each peer did when it was asked, and whether to ask it now. Pure: the clock is an argument.

A circuit per peer: closed while it answers; open after failures, for a time that doubles with each in a row; half-open
when that is over, when one request is let through to see. Breaking the protocol opens it for much longer. A refusal
because the peer is busy is no failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshnode.domain import PeerId, Record

FIRST_OPEN_S: Final = 1.0
LONGEST_OPEN_S: Final = 60.0
FIRST_BAN_S: Final = 60.0
LONGEST_BAN_S: Final = 3600.0
FORGIVEN_AFTER_S: Final = 3600.0
"""A violation so long after the last ban ended counts as a first one."""
TRIAL_S: Final = 30.0
"""How long a half-open circuit waits for the one request it let through, before it lets through another."""
MOST_PEERS: Final = 4096
"""Peers remembered; the one that was asked longest ago is forgotten first, unless it is banned."""
LONGEST_REASON: Final = 120
SHOWN: Final = 16
"""Banned peers that an owner is shown."""
_WEIGHT: Final = 0.2
"""Of the newest observation in the moving averages."""


class History(Record, frozen=True, kw_only=True):
    """How a peer did since this node started.

    ``first_token_s`` and ``decode_tps`` (tokens per second) are moving averages, None until measured. ``score`` in
    0..1 falls with each failure and rises with each success; 1 is also who was never asked.
    """

    successes: int = 0
    failures: int = 0
    first_token_s: float | None = None
    decode_tps: float | None = None
    score: float = 1.0
    last_failure: str = ""


UNKNOWN: Final = History()
"""Of a peer that was never asked."""


class _Circuit:
    __slots__ = ("avoided_until", "banned_until", "history", "in_a_row", "trial_until", "violations")

    def __init__(self) -> None:
        self.history = UNKNOWN
        self.in_a_row = 0
        self.violations = 0
        self.avoided_until = 0.0
        self.banned_until = 0.0
        self.trial_until = 0.0


class Health:
    """Histories and circuits of all peers. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers: dict[PeerId, _Circuit] = {}

    # --- what happened ------------------------------------------------------------------------

    def began(self, peer: PeerId) -> None:
        """``peer`` is being asked; when its circuit is half-open, this is the one request let through."""
        circuit = self._circuit(peer)
        if circuit.in_a_row or circuit.violations:
            circuit.trial_until = self._clock() + TRIAL_S

    def succeeded(self, peer: PeerId, first_token_s: float | None, decode_tps: float | None) -> None:
        """It answered; None for what could not be measured."""
        circuit = self._circuit(peer)
        old = circuit.history
        circuit.history = History(
            successes=old.successes + 1,
            failures=old.failures,
            first_token_s=_average(old.first_token_s, first_token_s),
            decode_tps=_average(old.decode_tps, decode_tps),
            score=old.score + _WEIGHT * (1 - old.score),
            last_failure=old.last_failure,
        )
        circuit.in_a_row = 0
        circuit.avoided_until = circuit.trial_until = 0.0

    def refused(self, peer: PeerId) -> None:
        """It said that it is busy, which shows that it is there: neither success nor failure."""
        self._circuit(peer).trial_until = 0.0

    def failed(self, peer: PeerId, code: str, reason: str) -> None:
        """It did not answer; ``code`` is that of a class of the tree of errors, ``reason`` a few words of our own.

        What fails while the circuit is open was under way before, and opens it no further: many requests that one loss
        ended count as one in a row.
        """
        circuit, now = self._circuit(peer), self._clock()
        self._count_failure(circuit, f"{code}: {reason}")
        if now < max(circuit.avoided_until, circuit.banned_until):
            return
        circuit.in_a_row += 1
        wait = min(LONGEST_OPEN_S, FIRST_OPEN_S * 2.0 ** min(circuit.in_a_row - 1, 16))
        circuit.avoided_until = now + wait

    def violated(self, peer: PeerId, reason: str) -> float:
        """It broke the protocol; gives the clock's time until which it is banned, which the door is to be told.

        Being told of it again while the peer is banned changes nothing.
        """
        circuit, now = self._circuit(peer), self._clock()
        if now < circuit.banned_until:
            return circuit.banned_until
        self._count_failure(circuit, f"protocol_violation: {reason}")
        if now > circuit.banned_until + FORGIVEN_AFTER_S:
            circuit.violations = 0
        circuit.violations += 1
        circuit.in_a_row += 1
        wait = min(LONGEST_BAN_S, FIRST_BAN_S * 2.0 ** min(circuit.violations - 1, 16))
        circuit.banned_until = now + wait
        return circuit.banned_until

    # --- what to make of it -------------------------------------------------------------------

    def avoided(self, peer: PeerId, now: float) -> str:
        """Why ``peer`` is not to be asked at ``now``; empty when it may be."""
        circuit = self._peers.get(peer)
        if circuit is None:
            return ""
        if now < circuit.banned_until:
            return f"broke the protocol, not asked for {_seconds(circuit.banned_until - now)}"
        if now < circuit.avoided_until:
            times = f" {circuit.in_a_row} times in a row" if circuit.in_a_row > 1 else ""
            return f"failed{times}, not asked for {_seconds(circuit.avoided_until - now)}"
        if now < circuit.trial_until:
            return "failed lately, and is being tried with one request"
        return ""

    def banned(self, peer: PeerId, now: float) -> bool:
        """Whether ``peer`` broke the protocol so lately that nothing is to be had to do with it."""
        circuit = self._peers.get(peer)
        return circuit is not None and now < circuit.banned_until

    def shunned(self, now: float) -> frozenset[PeerId]:
        """Who is banned; of many the latest :data:`SHOWN`, for a stranger can be as many as he likes."""
        banned = [peer for peer, circuit in self._peers.items() if now < circuit.banned_until]
        return frozenset(banned[-SHOWN:])

    def record(self, peer: PeerId) -> History:
        """How ``peer`` did."""
        circuit = self._peers.get(peer)
        return UNKNOWN if circuit is None else circuit.history

    # --- bookkeeping --------------------------------------------------------------------------

    def _circuit(self, peer: PeerId) -> _Circuit:
        """The peer's, now the youngest."""
        circuit = self._peers.pop(peer, None) or _Circuit()
        self._peers[peer] = circuit
        if len(self._peers) > MOST_PEERS:
            now = self._clock()
            free = (other for other, its in self._peers.items() if its.banned_until <= now and other != peer)
            del self._peers[next(free, next(iter(self._peers)))]
        return circuit

    def _count_failure(self, circuit: _Circuit, reason: str) -> None:
        old = circuit.history
        circuit.trial_until = 0.0
        circuit.history = History(
            successes=old.successes,
            failures=old.failures + 1,
            first_token_s=old.first_token_s,
            decode_tps=old.decode_tps,
            score=old.score * (1 - _WEIGHT),
            last_failure=_line(reason),
        )


def _average(old: float | None, new: float | None) -> float | None:
    if new is None or old is None:
        return old if new is None else new
    return old + _WEIGHT * (new - old)


def _seconds(wait: float) -> str:
    return f"{wait:.0f} s" if wait >= 1 else "1 s"


def _line(text: str) -> str:
    """One bounded line, whatever a peer made of it."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= LONGEST_REASON else shown[: LONGEST_REASON - 1] + "…"
