"""One session of ``/meshnode/infer/1``, sans-IO: bytes in, messages out, and the only judge of what may come when.

Both ends keep one, which sees what is sent as well as what is received, so that neither can say what the other would
refuse. A message that is not in the tables below, or breaks a bound, is a ProtocolViolation: the session is over.

Crossing messages. A provider may close a request while parts of its body, credit or a cancel are on their way; those
are let pass for numbers that are over, a body no further than it was announced. A caller that cancels goes on receiving
until the provider closes the request. Who says good-bye says nothing more; what the other said before it heard of it is
judged as ever.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final, NamedTuple

from meshnode.errors import ProtocolViolation
from meshnode.events import Event, Failed, Finished, decoded_tokens
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from meshnode.wire.frames import FrameReader, pack

SLACK: Final = 16
"""Tokens a provider may be ahead of its credit: text held back for a stop string is told of once more when it ends."""


class Role(enum.StrEnum):
    """Which end of the stream: who opened it asks, the other answers."""

    CALLER = "caller"
    PROVIDER = "provider"

    @property
    def other(self) -> Role:
        """The other end."""
        return Role.PROVIDER if self is Role.CALLER else Role.CALLER


class Phase(enum.StrEnum):
    """How far one end has introduced itself."""

    NEW = "new"
    GREETED = "greeted"
    OPEN = "open"
    CLOSED = "closed"


class State(enum.StrEnum):
    """Where a request stands."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    RUNNING = "running"
    CANCELLED = "cancelled"
    OVER = "over"


GREETING: Final = {
    (Phase.NEW, m.Hello): Phase.GREETED,
    (Phase.GREETED, m.Proof): Phase.OPEN,
    (Phase.NEW, m.Bye): Phase.CLOSED,
    (Phase.GREETED, m.Bye): Phase.CLOSED,
    (Phase.OPEN, m.Bye): Phase.CLOSED,
    (Phase.OPEN, m.Beat): Phase.OPEN,
}
"""What an end may say of itself, and what it is then."""

WHO: Final = {
    m.Ask: Role.CALLER,
    m.Body: Role.CALLER,
    m.Credit: Role.CALLER,
    m.Cancel: Role.CALLER,
    m.Tick: Role.CALLER,
    m.Accept: Role.PROVIDER,
    m.Refuse: Role.PROVIDER,
    m.Events: Role.PROVIDER,
    m.Countersigned: Role.PROVIDER,
}
"""Who says what, once both are open."""

REQUEST: Final = {
    (State.ASKED, "accept"): State.ACCEPTED,
    (State.ASKED, "refuse"): State.OVER,
    (State.ASKED, "credit"): State.ASKED,
    (State.ASKED, "cancel"): State.CANCELLED,
    (State.ACCEPTED, "body"): State.ACCEPTED,
    (State.ACCEPTED, "last body"): State.RUNNING,
    (State.ACCEPTED, "credit"): State.ACCEPTED,
    (State.ACCEPTED, "cancel"): State.CANCELLED,
    (State.ACCEPTED, "error"): State.OVER,
    (State.RUNNING, "credit"): State.RUNNING,
    (State.RUNNING, "cancel"): State.CANCELLED,
    (State.RUNNING, "event"): State.RUNNING,
    (State.RUNNING, "end"): State.OVER,
    (State.RUNNING, "error"): State.OVER,
    (State.CANCELLED, "accept"): State.CANCELLED,
    (State.CANCELLED, "refuse"): State.OVER,
    (State.CANCELLED, "event"): State.CANCELLED,
    (State.CANCELLED, "end"): State.OVER,
    (State.CANCELLED, "error"): State.OVER,
    (State.OVER, "body"): State.OVER,
    (State.OVER, "last body"): State.OVER,
    (State.OVER, "credit"): State.OVER,
    (State.OVER, "cancel"): State.OVER,
}
"""What may happen to a request. The first ask makes it ASKED; everything that is not here is a violation."""


_CLOSING: Final[dict[type, str]] = {Finished: "end", Failed: "error"}


class Bounds(NamedTuple):
    """``max_open`` requests at a time, or fewer where the provider's hello says so; a body of ``max_body`` bytes."""

    max_open: int = 256
    max_body: int = m.MAX_BODY


class _Request:
    """What the judge remembers of one."""

    __slots__ = ("body_left", "credit", "state")

    def __init__(self, credit: int, body_left: int) -> None:
        self.state = State.ASKED
        self.credit = credit
        self.body_left = body_left


class Session:
    """See the module. ``role`` is ours; after a ProtocolViolation it is of no more use."""

    def __init__(self, role: Role, bounds: Bounds = Bounds()) -> None:  # noqa: B008  immutable
        self.role = role
        self._bounds = bounds
        self._reader = FrameReader(limit=m.FRAME)
        self._phase = {Role.CALLER: Phase.NEW, Role.PROVIDER: Phase.NEW}
        self._greeted: set[Role] = set()
        self._proved: set[Role] = set()
        self._max_open = bounds.max_open
        self._requests: dict[int, _Request] = {}
        self._unread: dict[int, int] = {}
        """Bytes of bodies that may still be on their way to requests that are over."""
        self._last = 0

    @property
    def open(self) -> bool:
        """Whether both ends have introduced themselves, and neither has said good-bye."""
        return all(phase is Phase.OPEN for phase in self._phase.values())

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not whole yet."""
        return self._reader.pending

    def state(self, number: int) -> State | None:
        """Where a request stands; None for a number higher than any that was asked."""
        request = self._requests.get(number)
        if request is None:
            return State.OVER if 1 <= number <= self._last else None
        return request.state

    @property
    def requests(self) -> int:
        """Requests that are not over."""
        return len(self._requests)

    def receive(self, data: bytes) -> Iterator[m.Message]:
        """Messages completed by ``data``, each judged before it is given. Raises ProtocolViolation.

        The iterator must be used up before the next call: what is not asked for is not read.
        """
        for payload in self._reader.feed(data):
            message = m.decode(payload)
            self._judge(self.role.other, message)
            yield message

    def pack(self, message: m.Message) -> bytes:
        """The frame of a message of ours, judged as the other end will. Raises ProtocolViolation.

        Of events only the numbers are judged, not each field: they are many, and come from an engine.
        """
        payload = encode(message)
        if not isinstance(message, m.Events):
            m.decode(payload)
        frame = pack(payload, limit=m.FRAME)
        self._judge(self.role, message)
        return frame

    # --- the judge ----------------------------------------------------------------------------

    def _judge(self, speaker: Role, message: m.Message) -> None:
        greeting = GREETING.get((self._phase[speaker], type(message)))
        if greeting is not None:
            self._greet(speaker, message)
            self._phase[speaker] = greeting
            return
        said = self._phase[speaker]
        if len(self._proved) < len(Role) or said is not Phase.OPEN or WHO.get(type(message)) is not speaker:
            raise ProtocolViolation(f"{_name(message)} from the {speaker.value}, which is {said}, is out of order.")
        self._judge_open(message)

    def _greet(self, speaker: Role, message: m.Message) -> None:
        match message:
            case m.Hello():
                self._greeted.add(speaker)
                if speaker is Role.PROVIDER:
                    self._max_open = min(self._bounds.max_open, message.max_open)
            case m.Proof():
                if speaker.other not in self._greeted:
                    raise ProtocolViolation("a proof came before both ends had said hello.")
                self._proved.add(speaker)
            case _:
                pass

    def _judge_open(self, message: m.Message) -> None:
        match message:
            case m.Ask():
                self._ask(message)
            case m.Body():
                self._body(message)
            case m.Events():
                if not message.items:
                    raise ProtocolViolation("events without an event.")
                for number, event in message.items:
                    self._event(number, event)
            case m.Credit():
                for number, tokens in message.items:
                    self._step(number, "credit")
                    if number in self._requests:
                        self._requests[number].credit += tokens
            case m.Accept() | m.Refuse() | m.Cancel():
                self._step(message.number, type(message).__name__.lower())
            case _:
                pass  # a tick or a receipt is judged by the ledger

    def _ask(self, message: m.Ask) -> None:
        if message.number <= self._last:
            raise ProtocolViolation(f"request {message.number} was asked after request {self._last}.")
        if len(self._requests) >= self._max_open:
            raise ProtocolViolation(f"over {self._max_open} requests are open.")
        size = m.decode_terms(message.terms).body_bytes
        if not 1 <= size <= self._bounds.max_body:
            raise ProtocolViolation(f"a body of {size} bytes is announced; 1 to {self._bounds.max_body} are allowed.")
        self._last = message.number
        self._requests[message.number] = _Request(message.credit, size)

    def _body(self, message: m.Body) -> None:
        number, size = message.number, len(message.data)
        request = self._requests.get(number)
        self._step(number, "last body" if message.last else "body")
        left = (request.body_left if request is not None else self._unread.get(number, 0)) - size
        if left < 0 or not size or message.last != (left == 0):
            raise ProtocolViolation(f"the body of request {number} has not the length that was announced.")
        if request is not None:
            request.body_left = left
        elif left:
            self._unread[number] = left  # in the place it had: the oldest is the first to be forgotten
        else:
            del self._unread[number]

    def _event(self, number: int, event: Event) -> None:
        closing = _CLOSING.get(type(event), "event")
        request = self._requests.get(number)
        self._step(number, closing)
        if request is not None and (tokens := decoded_tokens(event)):
            request.credit -= tokens
            if request.credit < -SLACK:
                raise ProtocolViolation(f"request {number} got more tokens than it was granted.")

    def _step(self, number: int, happening: str) -> None:
        state = self.state(number)
        after = REQUEST.get((state, happening)) if state is not None else None
        if after is None:
            raise ProtocolViolation(f"{happening} for request {number}, which is {state or 'unknown'}.")
        request = self._requests.get(number)
        if request is None:
            return
        request.state = after
        if after is State.OVER:
            del self._requests[number]
            if state is State.ACCEPTED:
                self._let_pass(number, request.body_left)

    def _let_pass(self, number: int, size: int) -> None:
        """The rest of a body may be on its way to a request that its provider closed.

        As many are remembered as may be open at a time. That is enough: a caller that has not heard of a closing counts
        the request as open still, and one that has sends no more of its body before it asks anew.
        """
        self._unread[number] = size
        if len(self._unread) > self._max_open:
            del self._unread[next(iter(self._unread))]


def _name(message: m.Message) -> str:
    return type(message).__name__.lower()
