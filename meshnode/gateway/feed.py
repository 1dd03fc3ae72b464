"""One answer under way: a task reads the dispatcher's events, the handler takes them from a bounded channel.

The dispatcher's block is entered and left in that one task, so the handler may wait with timeouts without cancelling
a read half-way; when the client leaves, the request's nursery is cancelled and the block is left at once. The
bound of the channel is what makes a slow client slow its own generation down.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

import msgspec
import trio

from meshnode.domain import FIRST_TOKEN_S, GenerationRequest
from meshnode.errors import DeadlineExceeded, Draining, InternalFault, MeshnodeError, ModelNotFound
from meshnode.events import Event, Failed, Finished, Loading, Queued, error_of
from meshnode.gateway.faults import as_error
from meshnode.gateway.loading import still_on_its_way
from meshnode.gateway.turnstile import Turn, Turnstile
from meshnode.mesh.answer import Answer, Dispatcher, Route
from meshnode.mesh.modes import one_model

WINDOW: Final = 64
"""Events read ahead of the client."""


class ArrivalView(Protocol):
    """A model on its way to the disk: ``phase`` as of a pull, ``fraction`` in 0..1, ``over`` once it has ended.

    ``changed`` is set, and replaced, whenever any of them changes.
    """

    @property
    def source(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def fraction(self) -> float: ...
    @property
    def over(self) -> bool: ...
    @property
    def changed(self) -> trio.Event: ...


class Arriving(Protocol):
    """Knows what is being fetched."""

    def arriving(self, name: str | None) -> ArrivalView | None:
        """The fetch under way after which the model of that name (``None``: the default) will be here, if any."""


class Desk(Protocol):
    """What it takes to have a request answered; ``draining`` is set when the node stops."""

    @property
    def turnstile(self) -> Turnstile: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    @property
    def library(self) -> Arriving: ...
    @property
    def draining(self) -> trio.Event: ...


class OpenDesk(NamedTuple):
    """A :class:`Desk` of these parts."""

    turnstile: Turnstile
    dispatcher: Dispatcher
    library: Arriving
    draining: trio.Event


class Relayed:
    """Events that one task reads and another takes, at most a window behind, and the error that ended them."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Event](WINDOW)
        self._error: MeshnodeError | None = None

    async def receive(self) -> Event | None:
        """The next event; ``None`` after ``Finished``. Raises the error that ended the answer."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            return None

    def ready(self) -> list[Event]:
        """The events that can be had without waiting."""
        events: list[Event] = []
        while True:
            try:
                events.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return events


class Feed(Relayed):
    """Events of one request, the errors of its whole life included. Made by :func:`start_feed`."""

    def __init__(self, desk: Desk, request: GenerationRequest) -> None:
        super().__init__()
        self._desk = desk
        self._request = request
        self._scope = trio.CancelScope()
        self._ended = False
        self._answer: Answer | None = None

    @property
    def route(self) -> Route | None:
        """The road so far; known once somebody took the request."""
        return None if self._answer is None else self._answer.route

    async def run(self) -> None:
        """Read the answer to its end, or the node's."""
        async with self._send:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_with_node)
                    with self._scope:
                        await self._read()
                    nursery.cancel_scope.cancel()
            except Exception as error:
                self._error = as_error(error, self._request.id)

    async def _read(self) -> None:
        with self._desk.turnstile.turn() as turn:
            request = await self._queue(turn)
            try:
                await self._relay(request)
            except ModelNotFound:
                arrival = self._desk.library.arriving(one_model(request.model))
                if arrival is None:
                    raise
                await self._relay(await self._until_here(request, arrival))

    async def _relay(self, request: GenerationRequest) -> None:
        """The dispatcher's answer. Raises ModelNotFound, nothing being sent."""
        async with self._desk.dispatcher.open(request) as answer:
            self._answer = answer
            async for event in answer:
                if isinstance(event, Failed):
                    self._error = error_of(event)
                    return
                await self._send.send(event)
                if isinstance(event, Finished):
                    self._ended = True
                    return
            raise InternalFault("the answer broke off without a last event.")

    async def _until_here(self, request: GenerationRequest, arrival: ArrivalView) -> GenerationRequest:
        """Wait for a model that is being fetched, within the request's deadline; gives the request as it then is."""
        began = trio.current_time()
        patience = _patience(request)
        with trio.move_on_after(patience):
            while not arrival.over:
                changed = arrival.changed
                await self._send.send(Loading(arrival.fraction, fetching=True))
                await changed.wait()
        if not arrival.over:
            raise still_on_its_way(Loading(arrival.fraction, fetching=True), math.inf)
        return _as_left(request, began)

    async def _queue(self, turn: Turn) -> GenerationRequest:
        """Wait for this request's turn; gives the request with what is left of its deadline, for the dispatcher."""
        began = trio.current_time()
        patience = _patience(self._request)
        with trio.move_on_after(patience):
            while position := turn.position:
                changed = turn.changed
                await self._send.send(Queued(position))
                await changed.wait()
        if turn.position:
            raise DeadlineExceeded(
                f"the request waited for its {patience:g} s.", hint="Ask again later, or allow more."
            )
        return _as_left(self._request, began)

    async def _end_with_node(self) -> None:
        await self._desk.draining.wait()
        if not self._ended:
            self._error = Draining("the node is stopping.", hint="Try again when it is back.")
            self._scope.cancel()


def _patience(request: GenerationRequest) -> float:
    """Seconds until the request must have begun; of a deadline that has passed there are none."""
    return FIRST_TOKEN_S if request.deadline_s is None else request.deadline_s


def _as_left(request: GenerationRequest, began: float) -> GenerationRequest:
    """The request with what is left of its deadline, which counts from ``began``."""
    if request.deadline_s is None:
        return request
    left = max(0.0, began + request.deadline_s - trio.current_time())
    return msgspec.structs.replace(request, deadline_s=left)


def start_feed(nursery: trio.Nursery, desk: Desk, request: GenerationRequest) -> Feed:
    """Begin a request in its client's nursery. Raises Draining when the node takes no more."""
    if desk.draining.is_set():
        raise Draining("the node is stopping.", hint="Try again when it is back.")
    feed = Feed(desk, request)
    nursery.start_soon(feed.run)
    return feed
