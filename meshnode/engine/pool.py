"""Which models are loaded: on demand, within one memory, evicted when idle, restarted when their workers die.

Each model has a :class:`meshnode.engine.slot.Slot` with a task of its own; the pool decides synchronously who gets one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import structlog
import trio

from meshnode.domain import GenerationRequest, ModelCard, ModelId, ServiceClass
from meshnode.engine.back_off import BackOff
from meshnode.engine.gate import Gate
from meshnode.engine.pipe import EngineInfo
from meshnode.engine.room import Room, Tenant, Verdict, boundless
from meshnode.engine.slot import ModelState, OpenEngine, Slot
from meshnode.errors import Conflict, Draining, MeshnodeError, ModelFailed, Overloaded
from meshnode.events import CLOSING, Event, Finished, Loading, Queued, failure
from meshnode.observe import Metrics

_BUSY_RETRY_S = 5.0
_QUEUE_RETRY_S = 2.0
_PROGRESS_STEP = 0.01


class PoolLimits(NamedTuple):
    """``max_loaded`` models in memory; ``max_queued`` requests that wait for their engine, all models together.

    A model that nobody used for ``idle_unload_s`` seconds gives its memory back; 0 keeps it.
    """

    max_loaded: int = 1
    max_queued: int = 1024
    back_off: BackOff = BackOff()
    idle_unload_s: float = 0.0


DEFAULT_LIMITS = PoolLimits()


@asynccontextmanager
async def open_pool(
    open_engine: OpenEngine,
    *,
    metrics: Metrics,
    entropy: Callable[[], int],
    limits: PoolLimits = DEFAULT_LIMITS,
    room: Room = boundless,
) -> AsyncIterator[Pool]:
    """A pool with nothing loaded; leaving the block ends every answer and every engine.

    ``entropy`` gives 64 random bits; ``room`` says which models fit into memory together.
    """
    async with trio.open_nursery() as nursery:
        pool = Pool(nursery, open_engine, metrics, entropy, limits, room)
        if limits.idle_unload_s > 0:
            nursery.start_soon(pool.unload_idle)
        try:
            yield pool
        finally:
            pool.refuse()
            nursery.cancel_scope.cancel()


class Pool:
    """The models of this node. Made by :func:`open_pool`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        open_engine: OpenEngine,
        metrics: Metrics,
        entropy: Callable[[], int],
        limits: PoolLimits,
        room: Room,
    ) -> None:
        self._nursery = nursery
        self._open_engine = open_engine
        self._metrics = metrics
        self._entropy = entropy
        self._limits = limits
        self._room = room
        self._slots: dict[ModelId, Slot] = {}
        self._leaving: set[Slot] = set()
        self._queued = 0
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""
        return self._draining

    def states(self) -> tuple[ModelState, ...]:
        """The models that were ever asked for; every other one is unloaded."""
        return tuple(slot.state for slot in self._slots.values())

    def state(self, model: ModelId) -> ModelState:
        """One model, loaded or not."""
        slot = self._slots.get(model)
        return slot.state if slot else ModelState(id=model)

    async def load(self, card: ModelCard) -> EngineInfo:
        """Load a model, also one that has failed, and wait for it. Raises ModelFailed, Overloaded, Draining."""
        slot = self._slot(card, again=True)
        slot.users += 1
        try:
            while slot.engine is None:
                if slot.ending is not None:
                    raise slot.failed() if slot.state.state == "failed" else _draining()
                await slot.changed.wait()
            return slot.engine.info
        finally:
            slot.users -= 1
            slot.used_at = trio.current_time()

    async def unload(self, model: ModelId) -> None:
        """Free a model's memory, and forget its failures. Raises Conflict while it answers somebody."""
        slot = self._slots.get(model)
        if slot is None:
            return
        if slot.users:
            raise Conflict(
                f"{model} has {slot.users} requests under way.",
                hint="Unload it when they have ended.",
                retry_after_s=_BUSY_RETRY_S,
            )
        self._evict(slot)
        del self._slots[model]
        await slot.gone.wait()

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, card: ModelCard, gate: Gate | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Events of one request; ``Loading`` while its model is on its way into memory.

        With a ``gate``, the engine computes no more of it than that allows.
        Raises ModelFailed, Overloaded, Draining, BodyTooLarge; leaving the block frees the engine's slot.
        """
        if self._queued and self._queued >= self._limits.max_queued:  # 0: nobody waits, an idle engine answers
            raise Overloaded(
                f"{self._queued} requests wait already.", hint="Try again soon.", retry_after_s=_QUEUE_RETRY_S
            )
        guest = request.service_class is not ServiceClass.OWNER
        slot = self._slot(card, guest=guest)
        slot.users += 1
        slot.guests += guest
        async with AsyncExitStack() as stack:
            stack.callback(self._left, slot, guest)
            stream = PoolStream(request, gate, slot, stack, self._count)
            stack.callback(stream.stop_waiting)
            if slot.engine is not None:
                await stream.enter()
            yield stream

    async def drain(self) -> None:
        """Refuse new work, and close every answer under way with ``Failed(code="draining")``."""
        self.refuse()
        await trio.lowlevel.checkpoint()

    def refuse(self) -> None:
        """:meth:`drain`, at once."""
        self._draining = True
        for slot in self._slots.values():
            slot.end(failure(_draining()))

    # --- who gets a slot ----------------------------------------------------------------------

    def _slot(self, card: ModelCard, *, again: bool = False, guest: bool = False) -> Slot:
        """The model's slot, made if there is none; ``again`` tries a failed one anew, ``guest`` is not the owner."""
        if self._draining:
            raise _draining()
        slot = self._slots.get(card.id)
        if slot is not None and slot.card.sha256 != card.sha256 and not slot.users:
            self._evict(slot)
            again = True
        if slot is not None and slot.occupied:
            return slot
        if slot is not None and slot.state.state == "failed" and not again:
            raise slot.failed()
        needed = self._make_room(card, guest)
        return self._start(card, slot.state.restarts if slot else 0, needed)

    def _start(self, card: ModelCard, restarts: int, needed: int) -> Slot:
        slot = Slot(
            card,
            self._open_engine,
            back_off=self._limits.back_off,
            chance=lambda: (self._entropy() >> 11) / 2**53,
            restarted=self._metrics.worker_restarts_total.labels(model=card.id).inc,
            restarts=restarts,
            estimated=needed,
        )
        self._slots[card.id] = slot
        self._leaving = {other for other in self._leaving if not other.gone.is_set()}
        self._nursery.start_soon(slot.run, [other.gone for other in self._leaving])
        return slot

    def _make_room(self, card: ModelCard, guest: bool) -> int:
        """Evict idle models, least recently used first, until one more fits; for the owner those that serve guests too.

        Gives what the new one should take, in bytes. Evicts none where that would not be enough. Raises Overloaded, or
        ModelFailed for what fits not even alone.
        """
        staying = [slot for slot in self._slots.values() if slot.occupied]
        free = [slot for slot in staying if not slot.users or (not guest and slot.users == slot.guests)]
        idle = sorted(free, key=lambda slot: (slot.users == 0, -slot.used_at))
        going: list[Slot] = []
        while not (verdict := self._verdict(card, staying, going)).fits:
            if not idle:
                raise self._no_room(card, staying, verdict.sentence)
            going.append(idle.pop())
            staying.remove(going[-1])
        for slot in going:
            if slot.users:
                gone = Draining("the model made room for its owner's.", hint="Try again later.")
                slot.end(failure(gone))
            self._evict(slot)
        return verdict.needed

    def _verdict(self, card: ModelCard, staying: list[Slot], going: list[Slot]) -> Verdict:
        """Whether one more fits beside those that stay, by number and by memory."""
        if len(staying) >= self._limits.max_loaded:
            return Verdict(False, f"engine.max_loaded is {self._limits.max_loaded}")
        still_there = [*going, *(slot for slot in self._leaving if not slot.gone.is_set())]
        return self._room(card, [_tenant(slot) for slot in staying], [_tenant(slot) for slot in still_there])

    @staticmethod
    def _no_room(card: ModelCard, staying: list[Slot], why: str) -> MeshnodeError:
        if not staying:
            hint = "Ask for less context (--context), free memory, or use a smaller model."
            return ModelFailed(why, hint=hint)
        busy = ", ".join(slot.card.id for slot in staying)
        return Overloaded(
            f"{card.id} is not loaded, and there is no room while {busy} is busy: {why.rstrip('.')}.",
            hint="Try again later, or raise engine.max_loaded or engine.memory.",
            retry_after_s=_BUSY_RETRY_S,
        )

    async def unload_idle(self) -> None:
        """Give back the memory of models that nobody has used for long; runs until cancelled."""
        limit = self._limits.idle_unload_s
        while True:
            now = trio.current_time()
            idle = [slot for slot in self._slots.values() if slot.state.state == "ready" and not slot.users]
            for slot in idle:
                if now >= slot.used_at + limit:
                    structlog.get_logger().info("model_unloaded", model=slot.card.id, idle_s=round(now - slot.used_at))
                    self._evict(slot)
            later = (slot.used_at + limit for slot in idle if now < slot.used_at + limit)
            await trio.sleep_until(min(later, default=now + limit))

    def _evict(self, slot: Slot) -> None:
        slot.leave()
        self._leaving.add(slot)

    # --- bookkeeping --------------------------------------------------------------------------

    def _left(self, slot: Slot, guest: bool) -> None:
        slot.users -= 1
        slot.guests -= guest
        slot.used_at = trio.current_time()

    def _count(self, change: int) -> None:
        self._queued += change
        self._metrics.queue_length.set(self._queued)


class PoolStream:
    """Events of one request: ``Loading`` while it waits for its engine, then the engine's own."""

    def __init__(
        self,
        request: GenerationRequest,
        gate: Gate | None,
        slot: Slot,
        stack: AsyncExitStack,
        count: Callable[[int], None],
    ) -> None:
        self._request = request
        self._gate = gate
        self._slot = slot
        self._stack = stack
        self._count = count
        self._events: AsyncIterator[Event] | None = None
        self._waiting = True
        self._ended = False
        self._told: float | None = None
        count(1)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; ends after ``Finished`` or ``Failed``."""
        if self._ended:
            raise StopAsyncIteration
        event = await self._next()
        if self._waiting and not isinstance(event, Loading | Queued):
            self.stop_waiting()
        self._ended = isinstance(event, CLOSING)
        if isinstance(event, Finished):
            self._slot.finished()
        return event

    async def enter(self) -> None:
        """Hand the request to the engine, which the slot has now. Raises BodyTooLarge."""
        assert self._slot.engine is not None
        events = self._slot.engine.generate(self._request, self._gate)
        self._events = await self._stack.enter_async_context(events)

    def stop_waiting(self) -> None:
        """The request waits no more, or nobody waits for it."""
        if self._waiting:
            self._waiting = False
            self._count(-1)

    async def _next(self) -> Event:
        while self._events is None:
            if self._slot.ending is not None:
                return self._slot.ending
            if self._slot.engine is not None:
                try:
                    await self.enter()
                except MeshnodeError as error:
                    return failure(error)
            elif self._told is None or self._slot.progress >= self._told + _PROGRESS_STEP:
                self._told = self._slot.progress
                return Loading(self._told)
            else:
                await self._slot.changed.wait()
        return await anext(self._events)


def _tenant(slot: Slot) -> Tenant:
    return Tenant(slot.card, settled=slot.settled)


def _draining() -> Draining:
    return Draining("the node is stopping.", hint="Try another node, or this one again later.")
