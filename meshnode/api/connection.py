"""One client connection, HTTP/1.1 by hypercorn's protocol classes, with the guards its own TCP server lacks.

- a client has ``header_s`` to send a request's headers, and is let go when idle for ``idle_s``;
- a client that stops reading is cut off after ``write_s`` (hypercorn waits for ever, shielded from cancellation);
- HTTP/2 and WebSockets are never switched to: nothing here speaks them, and each is one more parser;
- a body nobody reads is dropped for a moment before the end, so that a refusal arrives ahead of the reset.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    LifespanState,
    Scope,
)

from meshnode.api.asgi import DOOR
from meshnode.gateway.principal import Door

RECEIVE: Final = 2**16
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_log = structlog.get_logger()

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Patience(NamedTuple):
    """How long a client may take, in seconds: for headers, between requests, to read what is sent, to hang up."""

    header_s: float = 10.0
    idle_s: float = 30.0
    write_s: float = 20.0
    linger_s: float = 2.0


class Serving(NamedTuple):
    """What all connections of a server share."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    patience: Patience


class PlainProtocol(H11Protocol):
    """HTTP/1.1 that stays HTTP/1.1: an ``Upgrade`` is ignored, as RFC 9110 (7.8) lets a server do."""

    async def _check_protocol(self, event: h11.Request) -> None:
        return

    async def _create_stream(self, request: h11.Request) -> None:
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(plain)


class Tasks(TaskGroup):
    """Requests of one connection. What arrives for one that is over is dropped; hypercorn's own would wait for ever."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on one request; gives what hands it the request's messages."""
        into, out = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        async def put(message: ASGIReceiveEvent) -> None:
            with suppress(trio.BrokenResourceError):
                await into.send(message)

        assert self._nursery is not None
        self._nursery.start_soon(
            _handle, _Once(app, out), config, scope, out.receive, send, trio.to_thread.run_sync, trio.from_thread.run
        )
        return put


class _Once:
    """The application for one request: closes the request's channel when it is done with it."""

    def __init__(self, app: AppWrapper, messages: trio.MemoryReceiveChannel[ASGIReceiveEvent]) -> None:
        self._app = app
        self._messages = messages

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        with self._messages:
            await self._app(scope, receive, send, sync_spawn, call_soon)


class ClientConnection:
    """One connection from its first byte to its last."""

    def __init__(self, serving: Serving, stream: Stream, door: Door) -> None:
        self._serving = serving
        self._stream = stream
        self._transport = transport_of(stream)
        self._door = door
        self._sending = trio.Lock()
        self._shaking_hands = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._busy = False
        self._head_begun = False
        self._waits_since = trio.current_time()
        self._hanging_up = False
        self._protocol: PlainProtocol

    @property
    def waits_since(self) -> float | None:
        """When it last had a request under way, or began (seconds on trio's clock); ``None`` while it has one."""
        return None if self._busy else self._waits_since

    def end_if_idle(self) -> None:
        """Let go of a client that has no request under way: the node ends, or somebody else needs the room."""
        if not self._busy:
            self._hanging_up = True
            self._shaking_hands.cancel()
            self._reading.cancel()

    async def run(self) -> None:
        """Serve it. Never raises but when cancelled: one client's trouble is nobody else's."""
        try:
            if await self._handshake():
                await self._serve()
        except* OSError:
            pass
        except* Exception as group:
            kinds = [type(error).__name__ for error in group.exceptions]
            _log.error("connection_crashed", kinds=kinds)

    async def _handshake(self) -> bool:
        """Whether there is a client to talk to: over TLS once it has shaken hands, in the time headers have."""
        if isinstance(self._stream, trio.SocketStream):
            return True
        self._shaking_hands.deadline = trio.current_time() + self._serving.patience.header_s
        with self._shaking_hands, suppress(trio.BrokenResourceError):
            await self._stream.do_handshake()
            return True
        return False

    async def _serve(self) -> None:
        serving = self._serving
        state = LifespanState({DOOR: self._door})
        async with Tasks() as tasks:
            self._protocol = PlainProtocol(
                serving.app,
                serving.config,
                serving.context,
                tasks,
                ConnectionState(state),
                self._transport is not self._stream,
                _address(self._transport.socket.getpeername()),
                _address(self._transport.socket.getsockname()),
                self._handle,
            )
            await self._read()
            await self._protocol.handle(Closed())
        with trio.move_on_after(self._serving.patience.linger_s):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.aclose()

    async def _read(self) -> None:
        self._read_for(self._serving.patience.header_s)
        with self._reading:
            while data := await self._receive():
                if self._hanging_up:
                    continue
                if not self._busy and not self._head_begun:
                    self._head_begun = True
                    self._read_for(self._serving.patience.header_s)
                await self._protocol.handle(RawData(data))
        if self._reading.cancelled_caught and self._head_begun and not self._hanging_up:
            await self._send(_TOO_SLOW)

    def _read_for(self, seconds: float) -> None:
        self._reading.deadline = trio.current_time() + seconds

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _handle(self, event: Event) -> None:
        """What the protocol wants done."""
        match event:
            case RawData(data=data):
                await self._send(data)
            case Updated(idle=idle):
                self._busy = not idle
                self._waits_since = trio.current_time()
                # The next request may have begun to arrive before this one was answered.
                self._head_begun = idle and bool(self._protocol.connection.trailing_data[0])
                patience = self._serving.patience
                waits = patience.header_s if self._head_begun else patience.idle_s
                self._read_for(waits if idle else math.inf)
            case Closed():
                self._hang_up()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            try:
                with trio.fail_after(self._serving.patience.write_s):
                    await self._stream.send_all(data)
            except trio.TooSlowError:
                _log.info("client_stopped_reading")
                await self._cut()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._cut()
            except trio.Cancelled:
                # Part of the data may have left, so nothing sent after it could be understood.
                self._transport.socket.close()
                raise

    async def _cut(self) -> None:
        """End it at once, in both directions; the reader then tells the request that its client is gone."""
        await trio.aclose_forcefully(self._transport)
        self._reading.cancel()

    def _hang_up(self) -> None:
        """No more from us; what the client still sends is dropped until it hangs up too, or for a moment.

        Does not wait: the task that gets here is the request's own, and it is being cancelled.
        """
        self._hanging_up = True
        linger = 0.0
        if self._stream is self._transport:
            with suppress(OSError):
                self._transport.socket.shutdown(trio.socket.SHUT_WR)
                linger = self._serving.patience.linger_s
        self._read_for(linger)


def transport_of(stream: Stream) -> trio.SocketStream:
    """The socket below TLS, or below nothing."""
    transport = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
    assert isinstance(transport, trio.SocketStream)
    return transport


def _address(name: object) -> tuple[str, int] | None:
    """Host and port of a TCP socket's name; a UNIX socket has none."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
