"""The request's nursery, and the last resort."""

from __future__ import annotations

from typing import Any

import trio

from meshnode.api.app import Application
from meshnode.api.asgi import Connection, current
from meshnode.gateway.principal import Door

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/x",
    "raw_path": b"/x",
    "query_string": b"",
    "headers": [(b"host", b"x")],
    "http_version": "1.1",
    "scheme": "http",
    "root_path": "",
    "client": None,
    "server": None,
    "extensions": {},
    "asgi": {},
}


async def call(app: Application, *, leave: trio.Event | None = None, **fields: object) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await (trio.Event() if leave is None else leave).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with trio.fail_after(10):
        scope: Any = {**SCOPE, "state": {}, **fields}
        await Connection(app, scope)(receive, send)
    return sent


async def test_what_a_request_started_ends_when_its_client_leaves() -> None:
    app = Application(__name__)
    leave, ended = trio.Event(), trio.Event()

    async def work() -> None:
        try:
            leave.set()
            await trio.sleep_forever()
        finally:
            ended.set()

    @app.get("/x")
    async def handler() -> str:
        current().nursery.start_soon(work)
        await trio.Event().wait()
        return ""

    assert await call(app, leave=leave) == []
    assert ended.is_set()


async def test_a_connection_of_unknown_origin_is_from_outside() -> None:
    app = Application(__name__)
    doors = []

    @app.get("/x")
    async def handler() -> str:
        doors.append(current().door)
        return ""

    await call(app)
    await call(app, state={"door": Door.CONTROL})
    assert doors == [Door.OUTSIDE, Door.CONTROL]


async def test_a_task_that_crashes_is_answered_with_500_and_no_words_of_its_own() -> None:
    app = Application(__name__)

    async def crash() -> None:
        raise ValueError("SECRET")

    @app.get("/x")
    @app.get("/v1/messages")
    async def handler() -> str:
        current().request_id = "req_1"
        current().nursery.start_soon(crash)
        await trio.Event().wait()
        return ""

    for path, kind in (("/x", b"internal_error"), ("/v1/messages", b"api_error")):
        start, body = await call(app, path=path)
        assert start["status"] == 500
        assert {(b"x-request-id", b"req_1"), (b"request-id", b"req_1")} <= set(start["headers"])
        assert kind in body["body"]
        assert b"SECRET" not in body["body"]


async def test_a_target_that_is_no_path_harms_nobody() -> None:
    app = Application(__name__)
    for path in ("", "*", "http://evil.test/"):
        start, *_ = await call(app, path=path)
        assert start["status"] == 404
