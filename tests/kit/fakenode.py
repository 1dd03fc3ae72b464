"""A node's control socket with canned answers: real HTTP on a real UNIX socket, no node behind it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request as it came: ``path`` undecoded, ``body`` decoded JSON or None."""

    method: str
    path: str
    body: Any


class Canned(NamedTuple):
    """An answer. ``lines`` are sent one by one; ``cut`` ends the connection after them without ending the body.

    With ``hold`` nothing more comes, and the connection stays until the client leaves.
    """

    status: int = 200
    lines: tuple[bytes, ...] = ()
    cut: bool = False
    hold: bool = False


class FakeNode:
    """Answers by ``METHOD path``; what is not canned is a 404 in the API's envelope."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.asked: list[Asked] = []
        self.left = threading.Event()
        """Set when a client left before its answer was whole."""
        self._answers: dict[str, Canned] = {}

    def json(self, request: str, value: object, status: int = 200) -> None:
        """Answer ``request`` with one JSON document."""
        self._answers[request] = Canned(status, (json.dumps(value).encode(),))

    def lines(self, request: str, *lines: str, cut: bool = False, hold: bool = False) -> None:
        """Answer ``request`` with lines, one by one."""
        self._answers[request] = Canned(200, tuple(f"{line}\n".encode() for line in lines), cut, hold)

    def error(self, request: str, status: int, code: str, message: str) -> None:
        """Answer ``request`` with the API's error envelope."""
        self.json(request, {"error": {"message": message, "type": "x", "param": None, "code": code}}, status)

    def answer(self, asked: Asked) -> Canned:
        """The canned answer to a request."""
        self.asked.append(asked)
        missing = json.dumps({"error": {"message": "no such path.", "type": "x", "param": None, "code": "not_found"}})
        return self._answers.get(f"{asked.method} {asked.path}", Canned(404, (missing.encode(),)))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    node: FakeNode

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("control", 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        canned = self.server.node.answer(Asked(self.command, self.path, body))
        self.send_response(canned.status)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for line in canned.lines:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            if canned.hold and not self.rfile.read(1):
                raise BrokenPipeError
            if not canned.cut:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.node.left.set()
            canned = canned._replace(cut=True)
        self.close_connection = canned.cut

    do_GET = _serve  # noqa: N815 (the base class calls it so)
    do_POST = _serve  # noqa: N815
    do_DELETE = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


@contextmanager
def fake_node(home: Path) -> Iterator[FakeNode]:
    """A :class:`FakeNode` listening on ``<home>/control.sock``."""
    home.mkdir(parents=True, exist_ok=True)
    node = FakeNode(home)
    with _Server(str(home / "control.sock"), _Handler) as server:
        server.node = node
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield node
        finally:
            server.shutdown()
            thread.join()
    (home / "control.sock").unlink()


STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "peer_id": "12D3KooWtest",
    "addresses": ["/ip4/127.0.0.1/tcp/9338/p2p/12D3KooWtest"],
    "api": ["http://127.0.0.1:9337/v1"],
    "uptime_s": 200.0,
    "home": "/home/ann/.meshnode",
    "models": [
        {
            "id": "smollm2-135m-instruct:q4_1", "state": "ready", "progress": 1.0, "reason": "", "context_length": 8192,
            "gpu_layers": 0, "layers": 30, "devices": ["CPU"], "threads": 1, "decode_tps": 125.4, "prefill_tps": 800.0,
            "running": 2, "waiting": 1, "kv_used": 10, "kv_total": 8192, "restarts": 0,
        },
        {
            "id": "big:q4_k_m", "state": "failed", "progress": 0.0, "reason": "not enough memory", "running": 0,
            "context_length": None, "gpu_layers": None, "layers": None, "devices": None, "threads": None,
            "decode_tps": None, "prefill_tps": None, "waiting": 0, "kv_used": 0, "kv_total": 0, "restarts": 3,
        },
    ],
    "devices": [{"name": "CPU", "description": "Some CPU", "kind": "cpu", "memory_total": 8, "memory_free": 4}],
    "backends": ["cpu"],
    "draining": False,
    "generating": 2,
}  # fmt: skip
"""``/api/status`` as a node writes it."""

MODEL: dict[str, Any] = {
    "id": "smollm2-135m-instruct:q4_1", "path": "/h/models/b1", "size": 98_362_432, "quantisation": "q4_1",
    "context_length": 8192, "parameters": 134_515_008, "source": "default", "managed": True, "state": "ready",
    "progress": 1.0, "reason": "", "modalities": ["text"], "gpu_layers": 0, "sha256": "b1",
}  # fmt: skip
"""An entry of ``/api/models``."""
