"""One connection: kept, timed, ended. What hostile clients do to it is in tests/integration/test_api_safety.py."""

from __future__ import annotations

import json
import re

import trio
from trio.testing import MockClock

from meshnode.config import ApiSettings
from tests.kit.api import CHAT, Scripted, read_all, read_until, running_api, spoken


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with running_api() as api, api.raw() as stream:
        for _ in range(3):
            await stream.send_all(api.head())
            assert b" 200 " in await read_until(stream, b"[]}")


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with running_api() as api, api.raw() as stream:
        last = api.head("GET", "/health", "Connection: close")
        await stream.send_all(api.head() + api.head("GET", "/nothing") + last)
        answers = await read_all(stream)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404", b"200"]


async def test_a_client_that_asks_to_close_is_closed() -> None:
    async with running_api() as api, api.raw() as stream:
        await stream.send_all(api.head("GET", "/health", "Connection: close"))
        with trio.fail_after(5):
            assert b" 200 " in await read_all(stream)


async def test_a_request_in_pieces_is_a_request() -> None:
    async with running_api() as api, api.raw() as stream:
        for byte in api.head():
            await stream.send_all(bytes([byte]))
        assert b" 200 " in await read_until(stream, b"[]}")


async def test_a_long_answer_is_not_cut_by_header_or_idle_time(mock_clock: MockClock) -> None:
    go = trio.Event()
    dispatcher = Scripted([go.wait, *spoken("late")])
    body = json.dumps(CHAT).encode()
    async with running_api(dispatcher, settings=ApiSettings(address="127.0.0.1:0")) as api, api.raw() as stream:
        head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        await stream.send_all(api.head("POST", "/v1/chat/completions", *head) + body)
        await dispatcher.entered.wait()
        mock_clock.jump(50)
        go.set()
        assert b"late" in await read_until(stream, b"late")


async def test_expect_100_is_answered() -> None:
    body = json.dumps(CHAT).encode()
    async with running_api() as api, api.raw() as stream:
        head = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
        await stream.send_all(api.head("POST", "/v1/chat/completions", *head))
        assert b" 100 " in await read_until(stream, b"\r\n\r\n")
        await stream.send_all(body)
        assert b" 200 " in await read_until(stream, b"Hello")
