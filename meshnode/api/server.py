"""The API's server: TCP, perhaps with TLS, and the control socket, in one nursery with a bounded end.

Once ``draining`` is set nobody new is let in, answers under way end themselves (each handler watches the same event),
and what has not ended ``graceful_s`` later is cut.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from ipaddress import ip_address
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from meshnode.api.binds import open_sockets
from meshnode.api.connection import ClientConnection, Patience, Serving, Stream, transport_of
from meshnode.api.control import control_listener, may_control, peer_uid
from meshnode.api.errors import envelope
from meshnode.api.sse import encode
from meshnode.api.tls import tls_context
from meshnode.config import ApiSettings
from meshnode.errors import Overloaded
from meshnode.gateway.principal import Door

MAX_CONTROL_CONNECTIONS: Final = 64
MAX_HEADERS: Final = 32 * 1024
"""Bytes of a request's line and headers."""
_log = structlog.get_logger()


class Bound(NamedTuple):
    """Where the server listens; ``urls`` as an OpenAI client takes them."""

    port: int
    urls: tuple[str, ...]
    control: Path | None


class Timing(NamedTuple):
    """``graceful_s``: how long the end may take once ``draining`` is set; the rest is each client's."""

    graceful_s: float = 3.0
    write_s: float = 20.0
    linger_s: float = 2.0


DEFAULT_TIMING: Final = Timing()


async def serve(
    app: QuartTrio,
    settings: ApiSettings,
    *,
    control_socket: Path | None,
    draining: trio.Event,
    timing: Timing = DEFAULT_TIMING,
    task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``draining``. Raises PortInUse, UnsafeBind, ConfigError, HomeUnusable or HomeInUse at the start."""
    tls = tls_context(settings)
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in open_sockets(settings)]
        control = stack.enter_context(control_listener(control_socket)) if control_socket is not None else None
        server = _Server(app, settings, timing)
        listeners: list[Any] = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
        if tls is not None:
            listeners = [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]
        async with _accepting(server, listeners, control) as stop_accepting:
            port = sockets[0].getsockname()[1]
            scheme = "https" if tls is not None else "http"
            urls = tuple(f"{scheme}://{_host(one)}:{port}/v1" for one in sockets)
            _log.info("api_listens", urls=list(urls), control=str(control_socket or ""))
            task_status.started(Bound(port, urls, control_socket))
            await draining.wait()
            stop_accepting()
            await server.end(timing.graceful_s)


@asynccontextmanager
async def _accepting(
    server: _Server, listeners: list[Any], control: socket.socket | None
) -> AsyncIterator[Callable[[], None]]:
    """Tasks that accept, and those of the connections, till the end of the block; gives what ends the first."""
    scope = trio.CancelScope()

    async def accept(connections: trio.Nursery) -> None:
        serve_on = partial(trio.serve_listeners, handler_nursery=connections)
        with scope:
            async with trio.open_nursery() as acceptors:
                acceptors.start_soon(partial(serve_on, server.client, listeners))
                if control is not None:
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(control))
                    acceptors.start_soon(partial(serve_on, server.owner, [listener]))

    async with trio.open_nursery() as connections:
        connections.start_soon(accept, connections)
        yield scope.cancel
        connections.cancel_scope.cancel()


class _Server:
    """The connections, and the limits on them."""

    def __init__(self, app: QuartTrio, settings: ApiSettings, timing: Timing) -> None:
        config = Config()
        config.logger_class = QuietLogger
        config.include_date_header = config.include_server_header = False
        config.h11_max_incomplete_size = MAX_HEADERS
        patience = Patience(settings.header_timeout_s, settings.idle_timeout_s, timing.write_s, timing.linger_s)
        self._serving = Serving(ASGIWrapper(app), config, WorkerContext(None), patience)
        self._max_connections = settings.max_connections
        self._clients: set[ClientConnection] = set()
        self._owners: set[ClientConnection] = set()
        self._left = trio.Event()

    async def client(self, stream: Stream) -> None:
        """One TCP connection. Where all are taken, the one that waited longest without a request makes room.

        So that many slow clients cannot keep a quick one out; refused is only who comes while all are at work.
        """
        if len(self._clients) >= self._max_connections and not self._make_room():
            await _refuse(stream)
            return
        await self._run(stream, _door(stream), self._clients)

    def _make_room(self) -> bool:
        waiting = [(since, one) for one in self._clients if (since := one.waits_since) is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=itemgetter(0))
        self._clients.discard(longest)
        longest.end_if_idle()
        return True

    async def owner(self, stream: trio.SocketStream) -> None:
        """One connection over the control socket: only of the owner's programs, or root's."""
        uid = peer_uid(stream.socket)  # type: ignore[arg-type]  # trio's socket has the one method this needs
        if not may_control(uid, os.geteuid()):
            _log.warning("control_refused", uid=uid)
            return
        if len(self._owners) < MAX_CONTROL_CONNECTIONS:
            await self._run(stream, Door.CONTROL, self._owners)

    async def end(self, graceful_s: float) -> None:
        """Let go of idle clients, and wait for the others, but not for long."""
        await self._serving.context.terminated.set()
        with trio.move_on_after(graceful_s):
            while self._clients or self._owners:
                for connection in self._clients | self._owners:
                    connection.end_if_idle()
                await self._left.wait()
        if self._clients or self._owners:
            _log.warning("connections_cut", connections=len(self._clients) + len(self._owners))

    async def _run(self, stream: Stream, door: Door, connections: set[ClientConnection]) -> None:
        connection = ClientConnection(self._serving, stream, door)
        connections.add(connection)
        try:
            await connection.run()
        finally:
            connections.discard(connection)
            self._left.set()
            self._left = trio.Event()


class QuietLogger(Logger):
    """hypercorn's log lines without their text: an exception's may quote a request."""

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        """One line that something failed below the application, which logs its own failures."""
        _log.error("http_server_failed", exc_info=True)

    async def access(self, *args: Any, **kwargs: Any) -> None:
        """No access log."""

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        """Nothing of it is for an owner."""

    critical = error = warning = info = debug = log  # type: ignore[assignment]


async def _refuse(stream: Stream) -> None:
    """One connection too many: said in HTTP where that costs nothing."""
    if not isinstance(stream, trio.SocketStream):
        return
    body = encode(envelope(Overloaded("this node has all the connections it takes.", hint="Try again shortly.")))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"retry-after: 1\r\nretry-after-ms: 1000\r\nx-should-retry: true\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    try:
        with trio.move_on_after(1.0):
            await stream.send_all(head.encode() + body)
            await stream.send_eof()
            while await stream.receive_some(4096):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


def _door(stream: Stream) -> Door:
    """From this machine to this machine, or from elsewhere."""
    transport = transport_of(stream)
    try:
        ends = (transport.socket.getpeername()[0], transport.socket.getsockname()[0])
    except OSError:
        return Door.OUTSIDE
    loopback = all(ip_address(end.partition("%")[0]).is_loopback for end in ends)
    return Door.LOOPBACK if loopback else Door.OUTSIDE


def _host(bound: socket.socket) -> str:
    host = str(bound.getsockname()[0])
    return f"[{host}]" if ":" in host else host
