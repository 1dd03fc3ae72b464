"""An engine that computes nothing and keeps time: one token of every request each step, stamped with its moment."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio

from meshnode.domain import FinishReason, GenerationRequest, ModelCard
from meshnode.engine.delivery import Multiplexer
from meshnode.engine.fake import FakeBackend
from meshnode.engine.gate import Gate
from meshnode.engine.pipe import Cancel, EngineInfo, Gauge, Grant, Step, Submit
from meshnode.engine.runner import Death
from meshnode.events import ChoiceFinished, Event, Failed, Finished, Started, TextDelta, Usage

PROMPT_TOKENS: Final = 8
STAMP: Final = re.compile(r"@(\d+)\.")
"""A token's text: the microsecond of CLOCK_MONOTONIC, which all processes share, in which it was due."""


class _Row:
    """One request being answered."""

    __slots__ = ("credit", "most", "said")

    def __init__(self, request: GenerationRequest, credit: int) -> None:
        self.most = request.stopping.max_tokens or 0
        self.credit = credit + 1  # the first token comes with the prompt
        self.said = 0


@asynccontextmanager
async def open_fixed_rate(
    card: ModelCard, progress: Callable[[float], None], step_s: float
) -> AsyncIterator[FixedRate]:
    """A :data:`meshnode.engine.slot.OpenEngine`, once ``step_s`` is given."""
    del card
    progress(1.0)
    engine = FixedRate(step_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        yield engine
        nursery.cancel_scope.cancel()


class FixedRate:
    """An :class:`meshnode.engine.runner.Engine`. Every request gets a token each ``step_s``, if its credit allows.

    The steps keep to a grid, as those of an engine in a process of its own would: where the node is late with one, the
    stamp still says when it was due, so that the wait is part of what is measured.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._rows: dict[int, _Row] = {}
        self._multiplexer = Multiplexer(self._send)
        self.starved = 0
        """Tokens that were not said for want of credit."""

    @property
    def info(self) -> EngineInfo:
        """A shape to show."""
        return FakeBackend(n_ctx=32768, n_seq_max=16).info

    @property
    def gauge(self) -> Gauge:
        """How many requests run."""
        return Gauge(running=len(self._rows))

    def generate(
        self, request: GenerationRequest, gate: Gate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request."""
        return self._multiplexer.generate(request, gate)

    def fail_all(self, failed: Failed) -> None:
        """Close every answer."""
        self._multiplexer.fail_all(failed)

    @property
    def dead(self) -> bool:
        """Never."""
        return False

    async def died(self) -> Death:
        """Never."""
        await trio.sleep_forever()
        raise AssertionError("for ever is over")

    async def run(self) -> None:
        """Step, for ever."""
        due = trio.current_time()
        while True:
            due += self._step_s
            stamp = time.monotonic_ns() // 1000 + round(1e6 * (due - trio.current_time()))
            await trio.sleep_until(due)
            events: list[tuple[int, Event]] = []
            for number, row in list(self._rows.items()):
                self._say(number, row, stamp, events)
            if events:
                self._multiplexer.commit(Step(tuple(events), self.gauge))

    def _say(self, number: int, row: _Row, stamp: int, events: list[tuple[int, Event]]) -> None:
        if not row.credit:
            self.starved += 1
            return
        if not row.said:
            events.append((number, Started(PROMPT_TOKENS)))
        row.credit -= 1
        row.said += 1
        events.append((number, TextDelta(f"@{stamp}.", token_ids=(row.said,))))
        if row.said == row.most:
            del self._rows[number]
            events.append((number, ChoiceFinished(FinishReason.LENGTH)))
            events.append((number, Finished(Usage(PROMPT_TOKENS, row.said))))

    def _send(self, message: Submit | Grant | Cancel) -> None:
        match message:
            case Submit():
                self._rows[message.number] = _Row(message.request, message.credit)
            case Grant():
                if (row := self._rows.get(message.number)) is not None:
                    row.credit += message.tokens
            case Cancel():
                self._rows.pop(message.number, None)
