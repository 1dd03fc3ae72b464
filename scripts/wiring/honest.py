"""Two ends that keep to the protocol and do as they please within it: what they say must never be refused."""

from __future__ import annotations

from random import Random

from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Event,
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
from meshnode.wire.session import SLACK, Bounds, Role, Session, State
from wiring import samples

MAX_OPEN = 3
ENDING = Failed("cancelled", "the caller left.")
_ENCODED = encode_signed(samples.FIRST)
_BODIES = [b"\x80" * size for size in (1, 2, 7, 40)]
_ASKS = [samples.ask(body=body) for body in _BODIES]
_HELLOS = {
    Role.CALLER: samples.hello(samples.CALLER),
    Role.PROVIDER: samples.hello(samples.PROVIDER, max_open=MAX_OPEN),
}
_PROOFS = {Role.CALLER: samples.proof(samples.CALLER), Role.PROVIDER: samples.proof(samples.PROVIDER, (samples.FIRST,))}


class End:
    """What both have in common; ``random`` decides. ``says`` gives the next message, or None for nothing now."""

    def __init__(self, role: Role, random: Random, *, leaving: float = 0.0) -> None:
        self.role = role
        self.session = Session(role, Bounds(max_open=MAX_OPEN))
        self.random = random
        self._leaving = leaving
        self._said: set[type] = set()
        self._heard: set[type] = set()

    def hear(self, message: m.Message) -> None:
        """Take note of what the other end said."""
        self._heard.add(type(message))

    def says(self) -> m.Message | None:
        """Something that may be said now."""
        message = self._next()
        if message is not None:
            self._said.add(type(message))
        return message

    def _next(self) -> m.Message | None:
        if m.Bye in self._said:
            return None
        if self.random.random() < self._leaving:
            return m.Bye("done")
        if m.Hello not in self._said:
            return _HELLOS[self.role]
        if m.Proof not in self._said:
            return _PROOFS[self.role] if m.Hello in self._heard else None
        if m.Proof not in self._heard or m.Bye in self._heard or self.random.random() < 0.05:
            return m.Beat()
        return self._in_earnest()

    def _in_earnest(self) -> m.Message | None:
        """Something to the matter."""
        raise AssertionError


class Caller(End):
    """Asks, sends bodies in parts, grants credit, cancels, pays."""

    def __init__(self, random: Random, *, leaving: float = 0.0) -> None:
        super().__init__(Role.CALLER, random, leaving=leaving)
        self._last = 0
        self._left: dict[int, bytes] = {}

    def _in_earnest(self) -> m.Message | None:
        random, session = self.random, self.session
        numbers = [number for number in self._left if session.state(number) is not State.OVER]
        self._left = {number: self._left[number] for number in numbers}
        if session.requests < MAX_OPEN and random.random() < 0.4:
            self._last += random.choice((1, 1, 1, 5))
            which = random.randrange(len(_BODIES))
            self._left[self._last] = _BODIES[which]
            return m.Ask(self._last, _ASKS[which].terms, _ASKS[which].signature, random.choice((0, 1, 64)))
        if not numbers:
            return m.Tick(_ENCODED, (m.Mark(1, 1, 0, 1),)) if random.random() < 0.2 else None
        number = random.choice(numbers)
        if session.state(number) is State.ACCEPTED and random.random() < 0.8:
            part = self._left[number][: random.randint(1, 20)]
            self._left[number] = self._left[number][len(part) :]
            return m.Body(number, part, last=not self._left[number])
        if session.state(number) is not State.CANCELLED and random.random() < 0.1:
            return m.Cancel(number)
        granted = random.randint(1, self._last)
        return None if session.state(granted) is State.CANCELLED else m.Credit(((granted, random.randint(0, 32)),))


class Provider(End):
    """Accepts and refuses, answers within the credit it has, gives up, countersigns."""

    def __init__(self, random: Random, *, leaving: float = 0.0) -> None:
        super().__init__(Role.PROVIDER, random, leaving=leaving)
        self._credit: dict[int, int] = {}
        self._started: set[int] = set()

    def hear(self, message: m.Message) -> None:
        """Take note of asks and credit."""
        super().hear(message)
        if isinstance(message, m.Ask):
            self._credit[message.number] = message.credit
        elif isinstance(message, m.Credit):
            for number, tokens in message.items:
                if number in self._credit:
                    self._credit[number] += tokens

    def _in_earnest(self) -> m.Message | None:
        random, session = self.random, self.session
        for number in [number for number in self._credit if session.state(number) is State.OVER]:
            del self._credit[number]
        asked = [number for number in self._credit if session.state(number) is State.ASKED]
        if asked and random.random() < 0.7:
            number = random.choice(asked)
            return m.Accept(number) if random.random() < 0.8 else m.Refuse(number, "overloaded", "full", 1000)
        items = tuple(item for number in self._credit for item in self._events(number) if random.random() < 0.9)
        if items:
            return m.Events(items)
        return m.Countersigned(_ENCODED) if random.random() < 0.1 else None

    def _events(self, number: int) -> list[tuple[int, Event]]:
        state, random = self.session.state(number), self.random
        if state is State.CANCELLED or (state in (State.ACCEPTED, State.RUNNING) and random.random() < 0.05):
            return [(number, ENDING)] if random.random() < 0.7 else []
        if state is not State.RUNNING:
            return []
        if number not in self._started:
            self._started.add(number)
            return [(number, Queued(1)), (number, Started(12)), (number, Prefilling(3, 12))]
        if random.random() < 0.05:
            return [(number, ChoiceFinished(FinishReason.STOP)), (number, Finished(Usage(12, 3)))]
        tokens = random.randint(1, 8)
        if tokens > self._credit[number] + SLACK * (random.random() < 0.02):
            return [(number, Heartbeat())]
        self._credit[number] -= tokens
        return [(number, TextDelta("word " * tokens, 0, tuple(range(tokens))))]
