"""Both ends of ``/meshnode/offer/1`` played by hand: what a test says on a stream, and what it hears there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from meshnode.identity import Identity
from meshnode.net.transport import Stream, Transport
from meshnode.wire.canonical import encode
from meshnode.wire.frames import FrameReader, pack
from meshnode.wire.offer import FRAME, PROTOCOL, VERSION, Passed, Subscribe, Told, Wrong, decode_message
from tests.kit.offers import NETWORK, model_offer, offer
from tests.kit.tellers import WALL_S, signed

SUBSCRIBE = Subscribe(version=VERSION, network=NETWORK)
"""What an honest node begins with."""


def framed(*messages: Subscribe | Told | Wrong) -> bytes:
    """As they travel."""
    return b"".join(pack(encode(message), limit=FRAME) for message in messages)


class Heard:
    """What is told on a stream, one message after another, each with the time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._frames = FrameReader(limit=FRAME)
        self._told: list[Told] = []

    async def next(self) -> tuple[float, Told]:
        """The next one."""
        while not self._told:
            data = await self._stream.read()
            assert data
            for frame in self._frames.feed(data):
                message = decode_message(frame)
                assert isinstance(message, Told)
                self._told.append(message)
        return trio.current_time(), self._told.pop(0)


async def trickle(stream: Stream) -> None:
    """Say most of what an honest node begins with, a byte a second."""
    for byte in framed(SUBSCRIBE)[:-1]:
        await stream.write(bytes([byte]))
        await trio.sleep(1)


async def silent(stream: Stream) -> None:
    """Say nothing."""
    await stream.read()


def saying(data: bytes) -> Callable[[Stream], Awaitable[None]]:
    """Write it, and end that side."""

    async def say(stream: Stream) -> None:
        await stream.write(data)
        await stream.close_write()

    return say


class Voice:
    """A peer that answers subscriptions with what it is told to, and notes when they came."""

    def __init__(self, host: Transport, answer: Callable[[Stream], Awaitable[None]]) -> None:
        self.asked: list[float] = []
        self._answer = answer
        host.set_handler(PROTOCOL, self)

    async def __call__(self, stream: Stream) -> None:
        self.asked.append(trio.current_time())
        assert await stream.read() == framed(SUBSCRIBE)
        await self._answer(stream)


async def for_ever(stream: Stream) -> None:
    await trio.sleep_forever()


def then_wait(*messages: Told | Wrong | Subscribe) -> Callable[[Stream], Awaitable[None]]:
    """Say this, and stay."""

    async def answer(stream: Stream) -> None:
        await stream.write(framed(*messages))
        await trio.sleep_forever()

    return answer


def of(who: Identity, *models: str, **changes: object) -> Passed:
    """An offer of today."""
    changes.setdefault("issued_ms", round(1000 * WALL_S))
    return signed(who, offer(who, *(model_offer(name) for name in models), **changes))
