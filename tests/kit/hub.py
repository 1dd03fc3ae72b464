"""A model hub on a loopback port that can misbehave in every way a download must survive.

It speaks just enough HTTP/1.1, one request a connection, written out by hand: a well-behaved server library would
refuse to lie about lengths.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import trio


@dataclass
class Served:
    """What lies at a path, and how the server gives it.

    ``cuts``: for each request in turn, after how many bytes of body the connection breaks off. ``announce``: the
    length it claims. ``stall_after``: it sends so many bytes, then nothing. ``statuses``: answers given first, in turn.
    """

    body: bytes = b""
    status: int = 200
    statuses: list[int] = field(default_factory=list)
    etag: str | None = '"v1"'
    ranges: bool = True
    chunked: bool = False
    cuts: list[int] = field(default_factory=list)
    announce: int | None = None
    stall_after: int | None = None
    wrong_range: bool = False
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = None


class Request(NamedTuple):
    """A request as it came; header names in lower case."""

    target: str
    headers: dict[str, str]


class Hub:
    """The server: put what it serves into ``served`` by path (with query), read what came from ``requests``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.served: dict[str, Served] = {}
        self.requests: list[Request] = []

    def add_repository(self, repository: str, files: dict[str, bytes]) -> dict[str, Served]:
        """Serve a repository's listing and files as the real hub does; gives the files by name."""
        listing = [
            {
                "type": "file",
                "oid": hashlib.sha1(body).hexdigest(),
                "size": len(body),
                "path": name,
                "lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134},
            }
            for name, body in files.items()
        ]
        listing.append({"type": "file", "oid": "0" * 40, "size": 10, "path": "README.md"})
        self.served[f"/api/models/{repository}/tree/main?recursive=true"] = Served(json.dumps(listing).encode())
        served = {name: Served(body) for name, body in files.items()}
        for name, one in served.items():
            self.served[f"/{repository}/resolve/main/{name}"] = one
        return served

    def targets(self, *, containing: str = "") -> list[str]:
        """What was asked for, in order."""
        return [request.target for request in self.requests if containing in request.target]

    async def handle(self, stream: trio.SocketStream) -> None:
        """Answer one request and close the connection."""
        async with stream:
            with suppress(trio.BrokenResourceError):
                await self._answer(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some()
            if not more:
                return
            data += more
        first, *lines = data.split(b"\r\n\r\n", 1)[0].decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        request = Request(first.split(" ")[1], headers)
        self.requests.append(request)
        served = self.served.get(request.target, Served(b"nothing here", status=404))
        head, body = _respond(served, request)
        await stream.send_all(head)
        await _send_body(stream, served, body)


def _respond(served: Served, request: Request) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    status = served.statuses.pop(0) if served.statuses else served.status
    if served.token is not None and request.headers.get("authorization") != f"Bearer {served.token}":
        status = 401
    headers = {"Connection": "close", **served.headers}
    body = served.body if status < 400 else b"an error page"
    if served.redirect is not None:
        return _head(302, {**headers, "Location": served.redirect, "Content-Length": "0"}), b""
    if served.etag is not None:
        headers["ETag"] = served.etag
    start = _range_start(served, request) if status == 200 else 0
    if start and start >= len(body):
        return _head(416, {**headers, "Content-Range": f"bytes */{len(body)}", "Content-Length": "0"}), b""
    if start:
        first = start + 1 if served.wrong_range else start
        headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        status, body = 206, body[start:]
    if served.chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(len(body) if served.announce is None else served.announce)
    return _head(status, headers), body


def _range_start(served: Served, request: Request) -> int:
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    condition = request.headers.get("if-range")
    if found is None or not served.ranges or (condition is not None and condition != served.etag):
        return 0
    return int(found[1])


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _send_body(stream: trio.SocketStream, served: Served, body: bytes) -> None:
    if served.stall_after is not None:
        await stream.send_all(body[: served.stall_after])
        await trio.sleep_forever()
    if served.cuts:
        await stream.send_all(body[: served.cuts.pop(0)])
    elif served.chunked:
        for start in range(0, len(body), 65536):
            piece = body[start : start + 65536]
            await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
        await stream.send_all(b"0\r\n\r\n")
    else:
        await stream.send_all(body)


@asynccontextmanager
async def open_hub() -> AsyncIterator[Hub]:
    """A hub on a free loopback port; it and its connections are gone after the block."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        hub = Hub(listeners[0].socket.getsockname()[1])
        await nursery.start(trio.serve_listeners, hub.handle, listeners)
        yield hub
        nursery.cancel_scope.cancel()
