"""One request with several prompts: carried out as many, a few at a time, and answered as one.

Each prompt may be answered by another engine or peer. The first one that fails ends them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from meshnode.domain import GenerationRequest, RequestId
from meshnode.errors import InternalFault, MeshnodeError
from meshnode.events import (
    CLOSING,
    Charge,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    failure,
)
from meshnode.mesh.answer import Answer, Dispatcher, Route

PARALLEL: Final = 8
"""Prompts of one request that are answered at a time."""
_SPOKEN: Final = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallStarted, ToolCallDelta, ChoiceFinished)


class SeveralDispatcher:
    """A :class:`meshnode.mesh.answer.Dispatcher` of requests with any number of prompts, over one of single prompts."""

    def __init__(self, inner: Dispatcher) -> None:
        self._inner = inner

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer; see the protocol. Raises what the first prompt raises."""
        if not request.prompts:
            async with self._inner.open(request) as answer:
                yield answer
            return
        raised: Exception | None = None
        first, *others = apart(request)
        async with self._inner.open(first) as answer, trio.open_nursery() as nursery:
            several = Several(self._inner, answer, request.choices, count=len(request.prompts))
            nursery.start_soon(several.relay, 0, answer)
            nursery.start_soon(several.run, others)
            try:
                yield several
            except Exception as error:
                raised = error  # the nursery would wrap it
            nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised


class Several:
    """An :class:`meshnode.mesh.answer.Answer` made of ``count``, the ``first`` of which has begun.

    It has one ``Started``, the first to come: the whole prompt's length is known at the end only. Words for those who
    wait are the first prompt's.
    """

    def __init__(self, inner: Dispatcher, first: Answer, choices: int, *, count: int) -> None:
        self._inner = inner
        self._first = first
        self._choices = choices
        self._count = count
        self._began = trio.current_time()
        self._places = trio.Semaphore(PARALLEL - 1)
        self._send, self._receive = trio.open_memory_channel[Event](0)
        self._started = False
        self._finished: list[Finished] = []
        self._ended = False

    @property
    def route(self) -> Route:
        """The first prompt's."""
        return self._first.route

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; ends after exactly one ``Finished`` or ``Failed``."""
        if self._ended:
            raise StopAsyncIteration
        event = await self._receive.receive()
        self._ended = isinstance(event, CLOSING)
        return event

    async def run(self, others: list[GenerationRequest]) -> None:
        """Carry out all prompts but the first."""
        async with trio.open_nursery() as nursery:
            for place, request in enumerate(others, 1):
                await self._places.acquire()
                nursery.start_soon(self._one, place, request)

    async def _one(self, place: int, request: GenerationRequest) -> None:
        if request.deadline_s is not None:
            left = max(0.0, self._began + request.deadline_s - trio.current_time())
            request = msgspec.structs.replace(request, deadline_s=left)
        try:
            async with self._inner.open(request) as answer:
                await self.relay(place, answer)
        except MeshnodeError as error:
            await self._send.send(failure(error))
        finally:
            self._places.release()

    async def relay(self, place: int, answer: Answer) -> None:
        """Hand on one prompt's answer, as that of its place among the others."""
        try:
            await self._relay(place, answer)
        except MeshnodeError as error:
            await self._send.send(failure(error))

    async def _relay(self, place: int, answer: Answer) -> None:
        async for event in answer:
            if isinstance(event, _SPOKEN):
                choice = event.choice + place * self._choices
                await self._send.send(msgspec.structs.replace(event, choice=choice))
            elif isinstance(event, Finished):
                self._finished.append(event)
                if len(self._finished) == self._count:
                    await self._send.send(total(self._finished))
                return
            elif isinstance(event, Failed):
                await self._send.send(event)
                return
            elif self._tells(event, place):
                await self._send.send(event)
        await self._send.send(failure(InternalFault("the answer broke off without a last event.")))

    def _tells(self, event: Event, place: int) -> bool:
        if not isinstance(event, Started):
            return place == 0
        first, self._started = not self._started, True
        return first


def apart(request: GenerationRequest) -> list[GenerationRequest]:
    """A request of one prompt for each of several; a bound on the cost is shared out evenly."""
    share = None if request.max_cost_uc is None else request.max_cost_uc // len(request.prompts)
    alone = msgspec.structs.replace(request, prompts=(), max_cost_uc=share)
    return [
        msgspec.structs.replace(alone, id=RequestId(f"{request.id}.{place}"), prompt=prompt)
        for place, prompt in enumerate(request.prompts)
    ]


def total(finished: list[Finished]) -> Finished:
    """What all took together: tokens and costs are added, times are the slowest's, as they ran beside each other.

    The receipts of those that cost anything stand in one list, a comma between them.
    """
    tokens = {name: sum(getattr(one.usage, name) for one in finished) for name in Usage.__struct_fields__}
    times = {name: max(getattr(one.timings, name) for one in finished) for name in Timings.__struct_fields__}
    charges = [one.charge for one in finished if one.charge is not None]
    receipts, cost = ",".join(charge.receipt for charge in charges), sum(charge.cost_uc for charge in charges)
    return Finished(Usage(**tokens), Timings(**times), Charge(receipts, cost) if charges else None)
