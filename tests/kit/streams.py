"""Handlers and readers for tests of transports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

from meshnode.errors import StreamReset, Unreachable
from meshnode.net.transport import Stream, Transport

Opener = Callable[..., AbstractAsyncContextManager[Transport]]
"""Opens a host; the arguments are those of ``meshnode.net.host.open_host``."""
ANY_PORT = ("/ip4/127.0.0.1/tcp/0",)
ECHO = "/test/echo/1"
MIB = 1 << 20


async def echo(stream: Stream) -> None:
    """Say everything again."""
    while data := await stream.read():
        await stream.write(data)


async def read_all(stream: Stream) -> bytes:
    """All up to the end."""
    pieces = bytearray()
    while data := await stream.read():
        pieces += data
    return bytes(pieces)


class Witness:
    """A handler that notes how its stream ended."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.over = trio.Event()
        self.data = b""
        self.end: str = ""

    async def __call__(self, stream: Stream) -> None:
        self.began.set()
        try:
            while data := await stream.read():
                self.data += data
            self.end = "end"
        except (StreamReset, Unreachable) as error:
            self.end = type(error).__name__
        finally:
            self.over.set()
