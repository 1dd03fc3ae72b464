"""Asking peers: the caller's end of ``/meshnode/infer/1``.

One session per peer, opened when it is first asked and kept as long as the connection. Its reading loop never waits for
anybody: events go into their request's queue, which credit bounds, so that a client that stops reading stops its own
answer and nobody else's. One task pays: it signs a receipt for what came, stores it, and only then sends it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from meshnode.causes import ours
from meshnode.domain import GenerationRequest, ModelId, PeerId
from meshnode.errors import (
    InternalFault,
    MeshnodeError,
    Overloaded,
    PeerError,
    ProtocolViolation,
    StreamReset,
)
from meshnode.events import Event
from meshnode.ledger.book import Book, ConsumerChannel, Totals
from meshnode.mesh.asker import PeerHung, PeerRefused
from meshnode.mesh.charges import Charges
from meshnode.mesh.greet import Self, greet
from meshnode.mesh.outgoing import CREDIT, Draft, Outgoing, draft_of
from meshnode.mesh.settle import TICK_S, Bill
from meshnode.mesh.talk import ACCEPT_S, Talk, Tasks
from meshnode.net.transport import Stream, Transport
from meshnode.wire import messages as m
from meshnode.wire.offer import ModelOffer, Offer
from meshnode.wire.receipt import content, decode_signed, encode_signed
from meshnode.wire.session import Bounds, Role, Session

_PACE_S: Final = 0.05
_MOST_CONFIRMING: Final = 256  # countersignatures that wait for the disk; a provider sends them in bursts
_OPEN_S: Final = 15.0
_AT_ONCE: Final = 64 << 10
"""Bytes of a body that is sent as soon as it may be; larger ones wait until others have spoken."""


class Desk(NamedTuple):
    """What asking needs of its node; ``violated`` hears who broke the protocol, ``charges`` what each request cost."""

    us: Self
    transport: Transport
    book: Book
    violated: Callable[[PeerId, str], None]
    charges: Charges


@asynccontextmanager
async def open_asking(desk: Desk) -> AsyncIterator[Asking]:
    """Sessions with providers, as they are needed; leaving the block ends them all."""
    async with trio.open_nursery() as nursery:
        yield Asking(desk, nursery)
        nursery.cancel_scope.cancel()


class Asking:
    """Asks peers. Made by :func:`open_asking`."""

    def __init__(self, desk: Desk, nursery: trio.Nursery) -> None:
        self._desk = desk
        self._nursery = nursery
        self._sessions: dict[PeerId, _Outbound] = {}

    def talks(self, peer: PeerId) -> bool:
        """Whether a session with ``peer`` is open."""
        return peer in self._sessions

    @asynccontextmanager
    async def ask(
        self, peer: PeerId, request: GenerationRequest, offer: Offer, model: ModelOffer
    ) -> AsyncIterator[Outgoing]:
        """Events of one request, computed by ``peer``; leaving the block cancels it there.

        Entering waits until it is accepted. Raises PeerRefused, PeerHung, Unreachable, StreamReset, ProtocolViolation,
        or InvalidField for what cannot travel. The iteration ends with one ``Finished`` or ``Failed``.
        """
        draft = draft_of(request, offer, model, self._desk.us)
        session = await self._session(peer)
        outgoing = session.begin(draft, request, ModelId(model.id), offer.ledger)
        try:
            await outgoing.accepted()
            yield outgoing
        finally:
            session.leave(outgoing)

    async def _session(self, peer: PeerId) -> _Outbound:
        session = self._sessions.get(peer)
        if session is None or session.over:
            session = _Outbound(peer, self._desk)
            self._sessions[peer] = session
            self._nursery.start_soon(self._keep, session)
        await session.ready()
        return session

    async def _keep(self, session: _Outbound) -> None:
        try:
            await session.run()
        finally:
            if self._sessions.get(session.peer) is session:
                del self._sessions[session.peer]


class _Outbound:
    """One session with one provider."""

    def __init__(self, peer: PeerId, desk: Desk) -> None:
        self.peer = peer
        self._desk = desk
        self._requests: dict[int, Outgoing] = {}
        self._bills: dict[int, Bill] = {}
        self._last = 0
        self._max_open = 0
        self._talk: Talk | None = None
        self._tasks: Tasks | None = None
        self._ready = trio.Event()
        self._owing = trio.Event()
        self._asked = trio.Event()
        self._receipts = trio.open_memory_channel[m.Countersigned](_MOST_CONFIRMING)
        self._ended: MeshnodeError | None = None

    @property
    def over(self) -> bool:
        """Whether it can carry no more requests."""
        return self._ended is not None

    async def ready(self) -> None:
        """Wait until requests can be asked. Raises why they cannot."""
        await self._ready.wait()
        if self._ended is not None:
            raise self._ended

    # --- requests -----------------------------------------------------------------------------

    def begin(self, draft: Draft, request: GenerationRequest, model: ModelId, provider: bytes) -> Outgoing:
        """Ask. Raises Overloaded when the peer lets this node open no more requests."""
        assert self._talk is not None, "ready() comes first"
        if len(self._requests) >= self._max_open:  # those not yet on the wire count too
            raise Overloaded(f"{self._max_open} requests to this peer are open.", retry_after_s=1.0)
        self._last += 1
        receipt = self._desk.charges.begin(request.id, model, self.peer, provider, draft.prices)
        outgoing = Outgoing(self._last, draft, self, receipt)
        self._requests[outgoing.number] = outgoing
        self._bills[outgoing.number] = outgoing.bill
        self._asked.set()
        self._talk.say(m.Ask(outgoing.number, draft.terms, draft.signature, CREDIT))
        return outgoing

    def leave(self, outgoing: Outgoing) -> None:
        """Its reader is gone: the provider is told to stop, and what came is still paid for."""
        known = outgoing.number in self._requests and not outgoing.bill.closed and outgoing.left_at is None
        if known and self._talk is not None:
            outgoing.left_at = trio.current_time()
            self._talk.say(m.Cancel(outgoing.number))
        self._owing.set()

    def grant(self, number: int, tokens: int) -> None:
        """The reader has room for more."""
        if self._talk is not None and number in self._requests:
            self._talk.say(m.Credit(((number, tokens),)))

    # --- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, introduce ourselves, and serve the requests until the session ends; never raises for the peer."""
        error: MeshnodeError = StreamReset(f"{self.peer} ended the session.")
        try:
            with trio.CancelScope() as opening:
                opening.deadline = trio.current_time() + _OPEN_S
                async with self._desk.transport.open_stream(self.peer, m.PROTOCOL) as stream:
                    await self._converse(stream, opening)
            if opening.cancelled_caught:
                error = PeerHung(f"did not open a session within {_OPEN_S:g} s.")
        except Exception as raised:
            known = ours(raised)
            if known is None:
                structlog.get_logger().error("asking_failed", peer=self.peer, error=type(raised).__name__)
                known = InternalFault("asking this peer failed inside.")
            error = known
        finally:
            self._end(error)
        if isinstance(error, ProtocolViolation):
            self._desk.violated(self.peer, error.message)

    async def _converse(self, stream: Stream, opening: trio.CancelScope) -> None:
        self._talk = Talk(stream, Role.CALLER, Session(Role.CALLER, Bounds(max_open=m.MARKS)))
        async with trio.open_nursery() as nursery:
            self._tasks = tasks = Tasks(nursery)
            tasks.start(self._talk.write)
            tasks.start(self._read, self._talk, tasks, opening)
        if tasks.failure is not None:
            raise tasks.failure

    async def _read(self, talk: Talk, tasks: Tasks, opening: trio.CancelScope) -> None:
        """Introduce ourselves, and take what comes."""
        desk = self._desk
        greeted = await greet(talk, desk.us, partial(desk.book.newest, "consumer"))
        channel = await desk.book.consume(greeted.ledger, self.peer, greeted.receipts)
        self._max_open = min(greeted.max_open, m.MARKS)
        opening.deadline = math.inf
        for task in (self._pay, self._confirm):
            tasks.start(task, channel)
        tasks.start(self._watch)
        self._ready.set()
        while True:
            self._take(await talk.hear())

    def _end(self, error: MeshnodeError) -> None:
        self._ended = error
        self._ready.set()
        for outgoing in self._requests.values():
            outgoing.fail(error)
            self._delivered(outgoing)
        self._requests.clear()
        self._talk = None

    def _take(self, message: m.Message) -> None:
        now = trio.current_time()
        match message:
            case m.Events():
                for number, event in message.items:
                    self._event(number, event, now)
            case m.Accept():
                self._accepted(message, now)
            case m.Refuse():
                outgoing = self._requests.pop(message.number)
                self._bills.pop(message.number)
                outgoing.answered(PeerRefused(message), now)
            case m.Beat():
                for outgoing in self._requests.values():
                    if not outgoing.bill.closed:
                        outgoing.alive(now)
            case m.Countersigned():
                with contextlib.suppress(trio.WouldBlock):  # the provider shows it again when a session opens
                    self._receipts[0].send_nowait(message)
            case m.Bye():
                raise StreamReset(f"{self.peer} said good-bye: {message.code}.")
            case _:
                pass

    def _event(self, number: int, event: Event, now: float) -> None:
        outgoing = self._requests[number]
        try:
            outgoing.put(event, now)
        except ProtocolViolation:
            raise
        except PeerError as error:  # no answer, but nothing that only a liar would send
            outgoing.fail(error)
            self.leave(outgoing)
            return
        due = outgoing.bill.due_at()
        if due is not None and (due <= now or due == now + TICK_S):  # at once, or the wait for the others begins
            self._owing.set()
        if outgoing.bill.closed:
            self._delivered(outgoing)
            del self._requests[number]
            if not outgoing.bill.owes:
                self._bills.pop(number, None)

    def _delivered(self, outgoing: Outgoing) -> None:
        bill = outgoing.bill
        self._desk.charges.delivered(bill.receipt, bill.mark(), bill.cost_uc)

    def _accepted(self, message: m.Accept, now: float) -> None:
        outgoing = self._requests[message.number]
        outgoing.answered(message, now)
        if outgoing.left_at is None and self._tasks is not None and self._talk is not None:
            if len(outgoing.draft.body) <= _AT_ONCE:
                self._talk.say(m.Body(outgoing.number, outgoing.draft.body, last=True))
            else:
                self._tasks.start(self._send_body, outgoing, self._talk)

    async def _send_body(self, outgoing: Outgoing, talk: Talk) -> None:
        """Send a large body in parts, each only once the one before is on its way, so that others get between."""
        body, number = outgoing.draft.body, outgoing.number
        for start in range(0, len(body), m.BODY_PART):
            await talk.room()
            if outgoing.left_at is not None or number not in self._requests:
                return
            part = body[start : start + m.BODY_PART]
            talk.say(m.Body(number, part, last=start + len(part) == len(body)))

    async def _watch(self) -> None:
        """Look after requests whose provider gives no sign, or does not close what was cancelled."""
        while True:
            if not self._requests:
                self._asked = trio.Event()
                await self._asked.wait()
            now = trio.current_time()
            looks = [outgoing.look(now) for outgoing in self._requests.values()]
            await trio.sleep_until(min([now + ACCEPT_S, *looks]))  # none that is made meanwhile hangs before that

    # --- paying -------------------------------------------------------------------------------

    async def _pay(self, channel: ConsumerChannel) -> None:
        """Tick when something is due: sign and store, then send."""
        while True:
            await self._until_due()
            self._owing = trio.Event()
            owing = [bill for bill in self._bills.values() if bill.owes][: m.MARKS]
            if owing:
                marks, more = [], Totals()
                for bill in owing:
                    mark, part = bill.pay()
                    marks.append(mark)
                    more = more.plus(part)
                signed = await channel.pay(more)
                receipt = content(signed)
                for bill in owing:
                    self._desk.charges.paid(bill.receipt, bill.paid_uc, receipt.chan, receipt.seq)
                if self._talk is not None:
                    self._talk.say(m.Tick(encode_signed(signed), tuple(marks)))
            self._forget_paid()

    async def _until_due(self) -> None:
        """Wait until a bill is due; a moment longer where no provider stands still for it, for others to join in."""
        while True:
            dues = [due for bill in self._bills.values() if (due := bill.due_at()) is not None]
            soonest = min(dues, default=math.inf)
            if soonest <= trio.current_time():
                break
            with trio.move_on_at(soonest):
                await self._owing.wait()
            if self._owing.is_set():
                self._owing = trio.Event()
        if len(self._bills) > 1 and not any(bill.urgent for bill in self._bills.values()):
            await trio.sleep(_PACE_S)

    def _forget_paid(self) -> None:
        for number, bill in list(self._bills.items()):
            if not bill.owes and number not in self._requests:
                del self._bills[number]

    async def _confirm(self, channel: ConsumerChannel) -> None:
        """Store the provider's countersignatures."""
        async for message in self._receipts[1]:
            await channel.confirm(decode_signed(message.receipt))
