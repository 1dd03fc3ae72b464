"""Serving peers: the provider's end of ``/meshnode/infer/1``.

One session per peer. Its reading loop judges asks and hands bodies on; each request runs in a task of its own, held
back by what its caller has paid for and has room for (:mod:`meshnode.mesh.settle`); one task stores ticks and
countersigns. Event frames never wait for the disk. Whatever happens in a session ends in it: its requests are
cancelled, their slots free within a step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog
import trio

from meshnode.causes import ours
from meshnode.domain import GenerationRequest, PeerId, ServiceClass
from meshnode.engine.gate import Gate
from meshnode.errors import (
    Cancelled,
    Draining,
    InternalFault,
    MeshnodeError,
    Overloaded,
    OwnerError,
    PaymentRequired,
    ProtocolViolation,
    StreamReset,
)
from meshnode.events import Event, Failed, Finished, Heartbeat, failure
from meshnode.identity import verify
from meshnode.ledger.book import Book, ProviderChannel, Totals
from meshnode.mesh.admission import LONGEST_DEADLINE_S, Places, judge, rebuild, whole
from meshnode.mesh.answer import Answer
from meshnode.mesh.greet import Self, greet
from meshnode.mesh.incoming import MOST_TAILS, Debts, Incoming
from meshnode.mesh.outward import outward, refusal, too_long
from meshnode.mesh.settle import Tab
from meshnode.mesh.talk import BEAT_S, Talk, Tasks
from meshnode.net.transport import Stream
from meshnode.wire import messages as m
from meshnode.wire.body import decode_body
from meshnode.wire.offer import Offer
from meshnode.wire.receipt import decode_signed, encode_signed
from meshnode.wire.session import Bounds, Role, Session

MOST_BODIES: Final = 64 << 20
"""Bytes of bodies on their way, all peers together."""
MOST_BODIES_OF_ONE: Final = 16 << 20
"""The same of one peer."""
LARGE_BODY: Final = 128 << 10
"""Bytes of a body from which on reading it takes so long that others would notice."""
MOST_OWING: Final = 8
"""Requests of a peer that ended and are not paid for; with more, and more than it may run, it is to pay first."""
TROUBLED_S: Final = 30.0
"""How long nobody is served after the books could not be written."""
COUNTERSIGN_EVERY: Final = 64
"""Ticks after which a receipt is countersigned in the middle of things."""
COUNTERSIGN_AT_ONCE: Final = 16
"""Channels countersigned in one go: each is a write to the disk that ticks wait for, and another one at the caller."""
FAREWELL_S: Final = 1.0


class Local(Protocol):
    """Answers requests with this node's own engine; :class:`meshnode.mesh.local.LocalDispatcher` is one."""

    def open(self, request: GenerationRequest, *, gate: Gate | None = None) -> AbstractAsyncContextManager[Answer]:
        """Events of one request. Raises ServingError and RequestError."""


async def here(work: Callable[[], GenerationRequest]) -> GenerationRequest:
    """An ``aside`` that has nowhere else to go."""
    await trio.lowlevel.checkpoint()
    return work()


class Kitchen(NamedTuple):
    """What serving needs of its node.

    ``offer`` is this node's own as it stands; ``violated`` hears who broke the protocol, and how; ``aside`` runs what
    would keep everybody waiting (a thread, where there are any).
    """

    us: Self
    local: Local
    offer: Callable[[], Offer]
    book: Book
    places: Places
    violated: Callable[[PeerId, str], None]
    aside: Callable[[Callable[[], GenerationRequest]], Awaitable[GenerationRequest]] = here


class Provider:
    """Serves the sessions of all peers; :meth:`handle` is the transport's handler."""

    def __init__(self, kitchen: Kitchen) -> None:
        self._kitchen = kitchen
        self._sessions: dict[PeerId, tuple[_Inbound, trio.CancelScope]] = {}
        self._changed = trio.Event()
        self.debts = Debts()
        """Who left without paying."""
        self.bodies = 0
        """Bytes of bodies on their way."""
        self._troubled_until = 0.0

    @property
    def troubled(self) -> bool:
        """Whether this node's books could not be written lately: what it would serve now could not be paid for."""
        return trio.current_time() < self._troubled_until

    def trouble(self, error: OwnerError) -> None:
        """The books could not be written."""
        if not self.troubled:
            structlog.get_logger().error("serving_paused", seconds=TROUBLED_S, error=str(error))
        self._troubled_until = trio.current_time() + TROUBLED_S

    def talks(self, peer: PeerId) -> bool:
        """Whether a session with ``peer`` is open."""
        return peer in self._sessions

    async def handle(self, stream: Stream) -> None:
        """One session; a peer's newer one ends its older. Raises PeerError for how it ended."""
        peer = stream.peer
        if peer in self._sessions:
            self._sessions[peer][1].cancel()
        session, scope = _Inbound(stream, self._kitchen, self), trio.CancelScope()
        self._sessions[peer] = session, scope
        try:
            with scope:
                await session.run()
        finally:
            if self._sessions.get(peer) == (session, scope):
                del self._sessions[peer]
            self.stir()

    async def quiet(self) -> None:
        """Wait until no request runs and all that was delivered is paid for."""
        while any(session.busy for session, _ in self._sessions.values()):
            await self._changed.wait()

    def stir(self) -> None:
        """Somebody may be done."""
        self._changed.set()
        self._changed = trio.Event()


class _Inbound:
    """One session with one caller."""

    def __init__(self, stream: Stream, kitchen: Kitchen, provider: Provider) -> None:
        self._talk = Talk(stream, Role.PROVIDER, Session(Role.PROVIDER, Bounds(max_open=kitchen.us.max_open)))
        self._kitchen = kitchen
        self._provider = provider
        self._peer = stream.peer
        self._running: dict[int, Incoming] = {}
        self._tabs: dict[int, Tab] = {}
        self._bodies = 0
        self._send_ticks, self._ticks = trio.open_memory_channel[m.Tick](max(COUNTERSIGN_EVERY, kitchen.us.max_open))
        self._ledger = b""

    @property
    def busy(self) -> bool:
        """Whether a request runs, or one that ran is not paid for."""
        return bool(self._running) or any(tab.owes for tab in self._tabs.values())

    async def run(self) -> None:
        """Serve until the stream ends. Raises PeerError."""
        try:
            async with trio.open_nursery() as nursery:
                tasks = Tasks(nursery)
                tasks.start(self._talk.write)
                tasks.start(self._serve, tasks)
        finally:
            self._clear()
        error = tasks.failure
        if isinstance(error, OwnerError):
            self._provider.trouble(error)
            error = StreamReset("this provider cannot keep its books now.")
        if isinstance(error, MeshnodeError):
            await self._part(error)
        if error is not None:
            raise error

    async def _serve(self, tasks: Tasks) -> None:
        kitchen = self._kitchen
        greeted = await greet(self._talk, kitchen.us, partial(kitchen.book.newest, "provider"))
        self._ledger = greeted.ledger
        channel = await kitchen.book.provide(greeted.ledger, self._peer, greeted.receipts)
        tasks.start(self._till, channel)
        tasks.start(self._look)
        while True:
            self._take(await self._talk.hear(), tasks)

    async def _part(self, error: MeshnodeError) -> None:
        """Say why the session ends, if the stream still carries it."""
        if isinstance(error, ProtocolViolation):
            self._kitchen.violated(self._peer, error.message)
        with trio.move_on_after(FAREWELL_S), contextlib.suppress(MeshnodeError, trio.ClosedResourceError):
            self._talk.say(m.Bye(error.code, error.message[:200]))
            await self._talk.flush()

    # --- what the caller says -----------------------------------------------------------------

    def _take(self, message: m.Message, tasks: Tasks) -> None:
        match message:
            case m.Ask():
                self._ask(message)
            case m.Body():
                self._body(message, tasks)
            case m.Credit():
                for number, tokens in message.items:
                    if number in self._running:
                        self._running[number].tab.grant(tokens)
            case m.Cancel():
                if (incoming := self._running.get(message.number)) is not None:
                    self._end(incoming, Cancelled("the caller left."))
            case m.Tick():
                self._tick(message)
            case m.Bye():
                raise Draining(f"said good-bye: {message.code}.")
            case _:
                pass

    def _ask(self, ask: m.Ask) -> None:
        if not verify(self._ledger, ask.signature, m.terms_payload(ask.terms)):
            raise ProtocolViolation("an ask is not signed by its caller.")
        incoming = Incoming(ask, trio.current_time())
        try:
            self._admit(incoming)
        except ProtocolViolation:
            raise
        except MeshnodeError as error:
            self._talk.say(refusal(ask.number, error))
            return
        self._running[ask.number] = incoming
        self._tabs[ask.number] = incoming.tab
        self._talk.say(m.Accept(ask.number))

    def _admit(self, incoming: Incoming) -> None:
        """Take a place for it. Raises what refuses it."""
        judge(incoming.terms, self._kitchen.offer())
        if self._provider.troubled:
            raise Overloaded("this provider cannot keep its books now.", retry_after_s=TROUBLED_S)
        owing = sum(tab.closed and tab.owes for tab in self._tabs.values())
        tails = self._provider.debts.count(self._ledger, trio.current_time())
        if owing >= max(MOST_OWING, self._kitchen.places.per_peer) or tails >= MOST_TAILS:
            raise PaymentRequired(f"{owing + round(tails)} answers are not paid for.", retry_after_s=2.0)
        size = incoming.terms.body_bytes
        if self._provider.bodies + size > MOST_BODIES or self._bodies + size > MOST_BODIES_OF_ONE:
            raise Overloaded("too many large requests are on their way.", retry_after_s=2.0)
        self._kitchen.places.take(self._peer)
        self._provider.bodies += size
        self._bodies += size

    def _body(self, message: m.Body, tasks: Tasks) -> None:
        incoming = self._running.get(message.number)
        if incoming is None:
            return
        incoming.add(message.data, trio.current_time())
        if message.last:
            tasks.start(self._answer, incoming)

    def _end(self, incoming: Incoming, why: MeshnodeError) -> None:
        """End a request from outside of its task, which may not run yet."""
        incoming.closing = failure(why)
        incoming.scope.cancel()
        if not incoming.whole:
            self._close(incoming, incoming.closing)

    def _tick(self, tick: m.Tick) -> None:
        try:
            self._send_ticks.send_nowait(tick)
        except trio.WouldBlock:
            raise ProtocolViolation("pays faster than it is served.") from None

    # --- one request --------------------------------------------------------------------------

    async def _answer(self, incoming: Incoming) -> None:
        """Compute one request and tell its events; it is closed exactly once."""
        closing: Failed | None = None
        try:
            with incoming.scope:
                closing = await self._compute(incoming)
        except Exception as error:
            known = ours(error)
            if known is None:
                structlog.get_logger().error("serving_failed", peer=self._peer, error=type(error).__name__)
            closing = failure(known or InternalFault("the provider failed inside."))
        if incoming.number in self._running:
            self._close(incoming, closing or incoming.closing or failure(too_long()))

    async def _compute(self, incoming: Incoming) -> Failed | None:
        aside = self._kitchen.aside if len(incoming.body) >= LARGE_BODY else here
        request = await aside(partial(self._rebuilt, incoming))
        if request.deadline_s == LONGEST_DEADLINE_S:  # the caller set none: one timer, in place of one for each token
            incoming.scope.deadline = trio.current_time() + LONGEST_DEADLINE_S
            request = msgspec.structs.replace(request, deadline_s=None)
        async with self._kitchen.local.open(request, gate=incoming.tab.gate) as answer:
            async for event in answer:
                if isinstance(event, Failed):
                    return event
                self._tell(incoming, event)
                if isinstance(event, Finished):
                    return None
        return failure(InternalFault("the provider's answer ended without an end."))

    def _rebuilt(self, incoming: Incoming) -> GenerationRequest:
        """The request for this node's engine. Raises what refuses it."""
        body = decode_body(whole(bytes(incoming.body), incoming.terms))
        return rebuild(body, incoming.terms, peer=self._peer, service_class=ServiceClass.NEWCOMER)

    def _tell(self, incoming: Incoming, event: Event) -> None:
        incoming.told_at = trio.current_time()
        incoming.tab.take(event)
        if isinstance(event, Finished):
            self._leave(incoming)
        self._talk.tell(incoming.number, event)

    def _close(self, incoming: Incoming, closing: Failed) -> None:
        closing = outward(closing)
        incoming.tab.take(closing)
        self._leave(incoming)
        self._talk.tell(incoming.number, closing)

    def _leave(self, incoming: Incoming) -> None:
        del self._running[incoming.number]
        self._kitchen.places.give_back(self._peer)
        self._provider.bodies -= incoming.terms.body_bytes
        self._bodies -= incoming.terms.body_bytes
        if not incoming.tab.owes:
            self._tabs.pop(incoming.number, None)
        self._provider.stir()

    def _clear(self) -> None:
        """The session is over: give everything back, and remember what is owed."""
        for incoming in list(self._running.values()):
            self._leave(incoming)
        tails = sum(tab.owes for tab in self._tabs.values())
        self._provider.debts.note(self._ledger, tails, trio.current_time())

    async def _look(self) -> None:
        """End what takes too long, and tell callers without news that they are not forgotten."""
        beaten = trio.current_time()
        while True:
            await trio.sleep(BEAT_S / 5)
            now = trio.current_time()
            for incoming in list(self._running.values()):
                if (why := incoming.overdue(now)) is not None:
                    self._end(incoming, why)
                elif incoming.whole and incoming.told_at <= now - BEAT_S:
                    incoming.told_at = now
                    self._talk.tell(incoming.number, Heartbeat())
            if now >= beaten + BEAT_S and any(not incoming.whole for incoming in self._running.values()):
                beaten = now
                self._talk.say(m.Beat())  # whatever else is said: events are no sign for a body on its way

    # --- the till -----------------------------------------------------------------------------

    async def _till(self, channel: ProviderChannel) -> None:
        """Store ticks as they come, let the engine go on; countersign at first, when all is paid, and now and then."""
        await self._countersign(channel)
        unsigned = 0
        async for tick in self._ticks:
            more = Totals()
            paid = []
            for mark in tick.marks:
                tab = self._tabs.get(mark.number)
                if tab is None:
                    raise ProtocolViolation(f"pays for request {mark.number}, which owes nothing.")
                more = more.plus(tab.credited(mark))
                paid.append(tab)
            await channel.take(decode_signed(tick.receipt), more)
            for tab in paid:
                tab.release()
                if tab.closed and not tab.owes:
                    self._tabs.pop(tab.number, None)
            unsigned += 1
            if unsigned >= COUNTERSIGN_EVERY or not self.busy:
                unsigned = 0
                await self._countersign(channel)
            self._provider.stir()

    async def _countersign(self, channel: ProviderChannel) -> None:
        """Sign what is left unsigned, a few at a time."""
        for _ in range(COUNTERSIGN_AT_ONCE):
            if (signed := await channel.countersign()) is None:
                return
            self._talk.say(m.Countersigned(encode_signed(signed)))
