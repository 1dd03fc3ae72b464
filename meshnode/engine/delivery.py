"""From one engine's stream of steps to the reader of each request, bounded by credit.

Both engines (the worker process of :mod:`meshnode.engine.runner` and the inline one of
:mod:`meshnode.engine.inline`) hand their steps to a :class:`Multiplexer`; it keeps one :class:`Delivery` per request.

Credit: a request is submitted with one window of decode, and more is granted only as events are read. A reader that
stops therefore stops its own generation after at most one window of tokens, and nobody else's. The prompt is computed
whether or not anybody reads. Who wants work to be held back until it is allowed gives a
:class:`meshnode.engine.gate.Gate`: then prompt and answer go no further than it allows, and the reader's window holds
beside it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

import trio

from meshnode.domain import GenerationRequest
from meshnode.engine.gate import Gate, Quota
from meshnode.engine.pipe import Cancel, Gauge, Grant, Step, Submit
from meshnode.errors import ProtocolViolation
from meshnode.events import (
    CLOSING,
    Event,
    Failed,
    Loading,
    Prefilling,
    Queued,
    decoded_tokens,
)

WINDOW = 512
"""Tokens a request may decode ahead of its reader: some seconds of speech, a few tens of kilobytes."""


class Delivery:
    """The events of one request on their way to its one reader. Ends after ``Finished`` or ``Failed``.

    ``grant`` is called with how many tokens were read, a quarter of a window at a time. At most four windows of events
    are held: an engine that sends more does not keep to its credit, which is a ProtocolViolation.
    """

    def __init__(self, grant: Callable[[int], None], window: int = WINDOW) -> None:
        self._grant = grant
        self._window = window
        self._held: deque[Event] = deque()
        self._news = trio.Event()
        self._read = 0
        self.ended = False
        """Whether the closing event was put (it may not be read yet)."""

    @property
    def held(self) -> int:
        """How many events wait for the reader."""
        return len(self._held)

    def put(self, event: Event) -> None:
        """Take one event. Raises ProtocolViolation when far more came than was ever granted."""
        if self.ended:
            return
        if isinstance(event, CLOSING):
            self.ended = True
        elif len(self._held) >= 4 * self._window:
            raise ProtocolViolation(f"the engine sent over {4 * self._window} events ahead of its credit.")
        if self._held and type(self._held[-1]) is type(event) and isinstance(event, Queued | Loading | Prefilling):
            self._held.pop()
        self._held.append(event)
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event, in order. A reader that waits has read everything."""
        if self._held or self.ended:
            await trio.lowlevel.checkpoint()
        while not self._held:
            if self.ended:
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()
        event = self._held.popleft()
        self._give_back(decoded_tokens(event))
        return event

    def _give_back(self, tokens: int) -> None:
        self._read += tokens
        if self._read >= max(1, self._window // 4) and not self.ended:
            self._grant(self._read)
            self._read = 0


class Multiplexer:
    """Many requests over one engine.

    ``send`` puts one message on the road to the engine at once and without waiting; it may raise a MeshnodeError for
    a request it cannot carry.
    """

    def __init__(self, send: Callable[[Submit | Grant | Cancel], None], *, window: int = WINDOW) -> None:
        self._send = send
        self._window = window
        self._numbers = itertools.count(1)
        self._deliveries: dict[int, Delivery] = {}
        self._closed: Failed | None = None
        self.gauge = Gauge()
        """The engine's own figures after its last step."""

    @property
    def busy(self) -> bool:
        """Whether any request waits for an event."""
        return any(not delivery.ended for delivery in self._deliveries.values())

    @asynccontextmanager
    async def generate(self, request: GenerationRequest, gate: Gate | None = None) -> AsyncIterator[Delivery]:
        """Submit one request for the length of the block; leaving it early cancels it at once.

        With a ``gate``, no more of it is computed than that allows, counted anew for each block.
        """
        number = next(self._numbers)
        quota = Quota(self._window, gate, lambda tokens, prefill: self._grant(number, tokens, prefill))
        delivery = self._submit(number, request, quota)
        try:
            with gate.attached(quota.renew) if gate is not None else nullcontext():
                yield delivery
        finally:
            self._deliveries.pop(number, None)
            if not delivery.ended and self._closed is None:
                self._send(Cancel(number))

    def _submit(self, number: int, request: GenerationRequest, quota: Quota) -> Delivery:
        delivery = Delivery(quota.read, self._window)
        if self._closed is not None:
            delivery.put(self._closed)
            return delivery
        self._send(Submit(number, request, credit=quota.decode, prefill=quota.prefill))
        self._deliveries[number] = delivery
        return delivery

    def _grant(self, number: int, tokens: int, prefill: int) -> None:
        delivery = self._deliveries.get(number)
        if delivery is not None and not delivery.ended:
            self._send(Grant(number, tokens, prefill))

    def commit(self, step: Step) -> None:
        """Hand out one step's events; those of requests that left are dropped. Raises ProtocolViolation."""
        self.gauge = step.gauge
        for number, event in step.events:
            delivery = self._deliveries.get(number)
            if delivery is not None:
                delivery.put(event)

    def fail_all(self, failed: Failed) -> None:
        """Close every answer under way with this event; the engine is told to stop computing them."""
        for number, delivery in self._deliveries.items():
            if not delivery.ended:
                delivery.put(failed)
                if self._closed is None:
                    self._send(Cancel(number))

    def close(self, failed: Failed) -> None:
        """The engine is gone: close every answer, and every later one, with this event. The first call counts."""
        if self._closed is None:
            self._closed = failed
            self.gauge = Gauge()
            self.fail_all(failed)
