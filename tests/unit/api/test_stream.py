"""The body of a stream; how it comes over a socket is in the tests of generation and of kept answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from meshnode.api.chat import ChatRenderer
from meshnode.api.render import Heading
from meshnode.api.stream import EventStream
from meshnode.api.voice import OPENAI, Voice
from meshnode.domain import ModelId, RequestId
from meshnode.events import Event, Finished, Queued, Started, TextDelta, Usage
from meshnode.mesh.answer import Route
from tests.kit.api import Scripted, a_context, sse_data

HEADING = Heading("chatcmpl-1", 1, ModelId("tiny"), "fp_1")


class Heaped:
    """A source whose events are all there at once, or once what stands among them has been waited for."""

    route: Route | None = None

    def __init__(self, *steps: Event | Callable[[], Awaitable[object]]) -> None:
        self._steps = list(steps)

    async def receive(self) -> Event | None:
        """The next one."""
        while callable(step := self._steps.pop(0)):
            await step()
        return step

    def ready(self) -> list[Event]:
        """Those before the next wait."""
        events: list[Event] = []
        while self._steps and not callable(step := self._steps[0]):
            events.append(step)
            self._steps.pop(0)
        return events


def a_stream(source: Heaped, *, voice: Voice = OPENAI, as_kept: bool = False) -> EventStream:
    """A stream of chat over the source."""
    context = a_context(Scripted([]), [])
    renderer = ChatRenderer(HEADING, include_usage=False)
    return EventStream(context, source, renderer, Started(5), RequestId("r"), voice=voice, as_kept=as_kept)


@pytest.mark.parametrize(("as_kept", "chunks"), [(False, 2), (True, 3)])
async def test_what_piled_up_is_one_chunk_unless_chunks_are_to_be_as_they_are_kept(as_kept: bool, chunks: int) -> None:
    stream = a_stream(Heaped(TextDelta("a"), TextDelta("b"), Finished(Usage(5, 2))), as_kept=as_kept)
    said = b"".join([piece async for piece in stream]).decode()
    assert len([data for data in sse_data(said) if data != "[DONE]"]) == chunks, "the role comes in one of its own"


async def test_silence_before_an_answer_is_told_by_a_comment_and_within_one_by_a_ping(
    autojump_clock: MockClock,
) -> None:
    voice, silence = OPENAI._replace(ping=b"ping"), partial(trio.sleep, 20)
    source = Heaped(Queued(2), silence, TextDelta("a"), silence, Finished(Usage(5, 1)))
    pieces = [piece async for piece in a_stream(source, voice=voice)]
    assert pieces[0] == voice.idle("queued, position 2")
    assert b"ping" in pieces[1:]
