"""A whole session between a caller and a provider, step by step, to be recorded once and replayed for ever.

A step is ``{"end": who, "says": frame in hex, "name": what it is}`` or ``{"end": who, "hears": how many messages}``.
What was said and not heard yet is on its way, so that messages cross as they do on a network.
"""

from __future__ import annotations

from typing import Any, Final

from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Failed,
    Finished,
    Heartbeat,
    Prefilling,
    Queued,
    Started,
    TextDelta,
    Usage,
)
from meshnode.wire import messages as m
from meshnode.wire.receipt import encode_signed
from meshnode.wire.session import Role, Session
from wiring import samples
from wiring.samples import BODY, CALLER, PROVIDER

Said = tuple[Role, m.Message]
Heard = tuple[Role, int]
C, P = Role.CALLER, Role.PROVIDER

STEPS: Final[tuple[Said | Heard, ...]] = (
    (C, samples.hello(CALLER)),
    (P, samples.hello(PROVIDER)),
    (P, 1),
    (C, 1),
    (P, samples.proof(PROVIDER, (samples.FIRST,))),
    (C, samples.proof(CALLER, (samples.FIRST,))),
    (C, 1),
    (P, 1),
    (C, samples.ask(1)),
    (C, samples.ask(2)),
    (C, samples.ask(5)),
    (P, 3),
    (P, m.Accept(1)),
    (P, m.Refuse(2, "overloaded", "8 requests wait already.", 5000, (CALLER.peer_id,))),
    (P, m.Accept(5)),
    (C, 3),
    (C, m.Body(1, BODY[:30], last=False)),
    (C, m.Body(1, BODY[30:], last=True)),
    (C, m.Body(5, BODY[:10], last=False)),
    (P, 3),
    (P, m.Events(((5, Failed("draining", "the node is stopping.")), (1, Queued(1))))),
    (C, m.Body(5, BODY[10:20], last=False)),  # crosses the end of its request
    (C, m.Credit(((1, 64), (5, 64)))),
    (C, m.Body(5, BODY[20:], last=True)),
    (P, 3),
    (C, 1),
    (P, m.Events(((1, Started(12, 0, 7)),))),
    (P, m.Events(((1, Prefilling(8, 12)),))),
    (P, m.Beat()),
    (C, 3),
    (C, m.Tick(encode_signed(samples.SECOND), (m.Mark(1, 12, 0, 0),))),
    (P, m.Events(((1, TextDelta("Hello", 0, (5,))), (1, Heartbeat())))),
    (C, m.Beat()),
    (C, samples.ask(6)),
    (C, m.Cancel(6)),
    (P, 4),
    (P, m.Refuse(6, "cancelled")),
    (P, m.Events(((1, TextDelta(" there", 0, (6, 7))),))),
    (C, m.Cancel(1)),  # crosses the end of the answer
    (P, m.Events(((1, ChoiceFinished(FinishReason.STOP)), (1, Finished(Usage(12, 3)))))),
    (C, 4),
    (P, 1),
    (C, m.Tick(encode_signed(samples.SECOND), (m.Mark(1, 12, 0, 3),))),
    (P, 1),
    (P, m.Countersigned(encode_signed(samples.FIRST))),
    (P, m.Bye("draining")),
    (C, m.Beat()),  # crosses the good-bye
    (C, 2),
    (P, 1),
    (C, m.Bye("done")),
    (P, 1),
)
"""A session with a refusal, a failure, two cancels, heartbeats, and messages that cross."""


class Play:
    """Both ends and what is on its way between them; ``cut`` is how many bytes an end reads at a time."""

    def __init__(self, cut: int = 1 << 20) -> None:
        self._ends = {role: Session(role) for role in Role}
        self._cut = cut
        self._road: dict[Role, list[bytes]] = {role: [] for role in Role}

    def say(self, role: Role, message: m.Message) -> bytes:
        """One end says something: its frame, which is on its way now. Raises ProtocolViolation."""
        frame = self._ends[role].pack(message)
        self._road[role.other].append(frame)
        return frame

    def hear(self, role: Role, count: int) -> list[m.Message]:
        """One end hears so many messages. Raises ProtocolViolation."""
        data = b"".join(self._road[role][:count])
        del self._road[role][:count]
        pieces = (data[start : start + self._cut] for start in range(0, len(data), self._cut))
        return [message for piece in pieces for message in self._ends[role].receive(piece)]

    @property
    def requests(self) -> set[int]:
        """How many requests each end holds open."""
        return {end.requests for end in self._ends.values()}


def record() -> list[dict[str, Any]]:
    """The steps, with the frames two ends make of them."""
    play, lines = Play(), []
    for role, what in STEPS:
        if isinstance(what, int):
            play.hear(role, what)
            lines.append({"end": role.value, "hears": what})
        else:
            frame = play.say(role, what)
            lines.append({"end": role.value, "says": frame.hex(), "name": type(what).__name__})
    return lines
