"""What a hostile page, a hostile client or a tired one can do to the API: real sockets throughout (threats 1-5)."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Iterator

import httpx2
import pytest
import trio

from meshnode.api.server import Timing
from meshnode.config import ApiSettings
from tests.kit.api import ADMIN_TOKEN, CHAT, Api, Scripted, endless, read_all, read_until, running_api, spoken

LISTED = "https://chat.example"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of every connection live in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"the hard limit of open files is {hard}; this needs 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- pages ------------------------------------------------------------------------------------------


def origins(port: int) -> dict[str | None, bool]:
    """Origins, and whether pages there may call us."""
    return {
        None: True,
        f"http://127.0.0.1:{port}": True,
        f"http://localhost:{port}": True,
        LISTED: True,
        "null": False,
        "https://evil.test": False,
        f"http://127.0.0.1:{port + 1}": False,
        f"http://127.0.0.1.evil.test:{port}": False,
        f"https://127.0.0.1:{port}": False,
        "http://127.0.0.1": False,
    }


KINDS = {"application/json": True, "text/plain": False, "application/x-www-form-urlencoded": False, None: False}


async def test_a_page_may_call_only_from_a_known_origin_and_with_json() -> None:
    settings = ApiSettings(address="127.0.0.1:0", cors_origins=(LISTED,))
    async with running_api(Scripted(spoken("x")), settings=settings) as api, api.client() as client:
        for origin, known in origins(api.bound.port).items():
            for kind, is_json in KINDS.items():
                headers = {k: v for k, v in {"origin": origin, "content-type": kind}.items() if v is not None}
                answer = await client.post("/v1/chat/completions", content=json.dumps(CHAT), headers=headers)
                expected = 403 if not known else 200 if is_json else 415
                assert answer.status_code == expected, (origin, kind, answer.text)
                assert_readable_only_by_listed(answer, origin)


def assert_readable_only_by_listed(answer: httpx2.Response, origin: str | None) -> None:
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (LISTED if origin == LISTED and answer.status_code == 200 else None)
    assert "access-control-allow-credentials" not in answer.headers


async def test_methods_that_change_things_are_refused_from_strange_origins_and_safe_ones_too() -> None:
    async with running_api() as api, api.client() as client:
        for method, path in [("GET", "/v1/models"), ("POST", "/api/stop"), ("DELETE", "/api/models/x"), ("GET", "/")]:
            token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
            for strange in ({"origin": "https://evil.test"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
                answer = await client.request(method, path, headers=token | strange)
                assert answer.status_code == 403, (method, path, strange)
        assert api.stopped == []


async def test_a_preflight_is_granted_to_listed_origins_only() -> None:
    settings = ApiSettings(address="127.0.0.1:0", cors_origins=(LISTED,))
    asks = {"access-control-request-method": "POST", "sec-fetch-site": "cross-site"}
    async with running_api(settings=settings) as api, api.client() as client:
        granted = await client.options("/v1/chat/completions", headers=asks | {"origin": LISTED})
        refused = await client.options("/v1/chat/completions", headers=asks | {"origin": "https://evil.test"})
    assert granted.status_code == 204
    assert granted.headers["access-control-allow-origin"] == LISTED
    assert "content-type" in granted.headers["access-control-allow-headers"]
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.test:{port}", "[::1]"]
)
async def test_a_strange_host_gets_403_whatever_it_asks(host: str) -> None:
    async with running_api() as api:
        for path in ("/health", "/v1/models", "/", "/nothing"):
            async with api.raw() as stream:
                await stream.send_all(api.head("GET", path, host=host.format(port=api.bound.port)))
                assert b" 403 " in (await read_until(stream, b"\r\n\r\n")).splitlines()[0]


async def test_both_families_and_both_spellings_of_localhost_are_served() -> None:
    async with running_api() as api:
        assert len(api.bound.urls) == 2, "this machine has no [::1]"
        for base in (*api.bound.urls, f"http://localhost:{api.bound.port}/v1"):
            async with httpx2.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{base}/models")).status_code == 200


async def test_admin_calls_need_the_token_and_v1_ignores_one() -> None:
    async with running_api() as api, api.client() as client:
        assert (await client.get("/api/models")).status_code == 401
        assert (await client.get("/api/models", headers={"authorization": "Bearer wrong"})).status_code == 401
        token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        assert (await client.get("/api/models", headers=token)).status_code == 200
        assert (await client.get("/v1/models", headers={"authorization": "Bearer sk-anything"})).status_code == 200


async def test_local_key_closes_v1_on_loopback() -> None:
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with running_api(settings=settings) as api, api.client() as client:
        refused = await client.post("/v1/chat/completions", json=CHAT)
        taken = await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert taken.status_code == 200


# --- bodies -----------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_413_announced_or_chunked() -> None:
    settings = ApiSettings(address="127.0.0.1:0", max_body=1 << 20)
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (3 << 20)}]}).encode()

    chunk = b"%x\r\n%b\r\n" % (1 << 16, body[: 1 << 16])
    async with running_api(settings=settings) as api, api.client() as client, api.raw() as stream:
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/chat/completions", content=body, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        head = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        await stream.send_all(api.head("POST", "/v1/chat/completions", *head))
        for _ in range(20):
            await stream.send_all(chunk)
        assert b" 413 " in await read_until(stream, b"body_too_large")
        assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
        b'{"messages": [], "messages": []}',
        b'{"temperature": NaN}',
        b'{"temperature": 1e999}',
        b'{"user": "\\ud800"}',
        b'{"user": "\xff"}',
        b"",
        b"[]",
        b'{"messages": [',
    ],
)
async def test_json_that_no_one_should_send_is_400(body: bytes) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


# --- connections ------------------------------------------------------------------------------------


async def test_headers_that_trickle_are_cut_off_and_others_are_served_meanwhile() -> None:
    settings = ApiSettings(address="127.0.0.1:0", header_timeout_s=0.5)
    async with running_api(settings=settings) as api, api.client() as client, api.raw() as slow:
        await slow.send_all(b"GET /health HTTP/1.1\r\nHost:")
        assert (await client.get("/health")).status_code == 200
        with trio.fail_after(20):
            assert b" 408 " in await read_all(slow)


async def test_a_connection_that_says_nothing_or_falls_silent_is_let_go() -> None:
    settings = ApiSettings(address="127.0.0.1:0", header_timeout_s=0.3, idle_timeout_s=0.3)
    async with running_api(settings=settings) as api, api.raw() as mute, api.raw() as idle:
        await idle.send_all(api.head())
        with trio.fail_after(20):
            assert b" 200 " in await read_all(idle)
            assert await read_all(mute) == b""


async def test_a_second_request_on_a_kept_connection_has_its_own_header_time() -> None:
    settings = ApiSettings(address="127.0.0.1:0", header_timeout_s=0.5)
    async with running_api(settings=settings) as api, api.raw() as stream:
        await stream.send_all(api.head())
        await read_until(stream, b"}")
        await stream.send_all(b"GET /health HTTP/1.1\r\n")
        with trio.fail_after(20):
            assert b" 408 " in await read_all(stream)


async def test_slow_clients_are_held_to_the_limit_and_do_not_keep_a_quick_one_out(many_files: None) -> None:
    async with running_api(settings=ApiSettings(address="127.0.0.1:0", header_timeout_s=60)) as api:
        held = []
        for _ in range(1100):
            held.append(await trio.open_tcp_stream("127.0.0.1", api.bound.port))
            await held[-1].send_all(b"GET /health HTTP/1.1\r\nHost:")
        async with api.client() as client:
            for _ in range(20):
                assert (await client.get("/health", headers={"connection": "close"})).status_code == 200
        with trio.fail_after(20):
            for cut in held[:76]:
                assert await read_all(cut) == b""
        for one in held:
            await trio.aclose_forcefully(one)


async def test_who_comes_while_all_connections_are_at_work_is_told_503() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    settings = ApiSettings(address="127.0.0.1:0", max_connections=2)
    async with running_api(dispatcher, settings=settings) as api:
        async with api.raw() as one, api.raw() as two:
            await ask_for_a_stream(api, one, b"more")
            await ask_for_a_stream(api, two, b"more")
            async with api.raw() as extra:
                await extra.send_all(api.head())
                with trio.fail_after(10):
                    answer = await read_all(extra)
            assert b" 503 " in answer.splitlines()[0]
            assert b"retry-after: 1" in answer
            assert b'"code":"overloaded"' in answer
        await until_served(api)


async def until_served(api: Api) -> None:
    """Closed connections are seen a moment later."""
    while True:
        async with api.raw() as stream:
            await stream.send_all(api.head("GET", "/health", "Connection: close"))
            if b" 200 " in await read_all(stream):
                return


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
)
async def test_no_upgrade_is_taken(head: bytes) -> None:
    async with running_api() as api, api.raw() as stream:
        await stream.send_all(head % api.bound.port)
        assert b" 200 " in (await read_until(stream, b"\r\n\r\n")).splitlines()[0]


@pytest.mark.parametrize(
    "junk",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET /" + b"a" * 40_000,
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    ],
)
async def test_what_is_not_a_request_for_us_is_refused_and_harms_nobody(junk: bytes) -> None:
    async with running_api() as api, api.client() as client:
        async with api.raw() as stream:
            await stream.send_all(junk)
            first = (await read_until_end_or_line(stream))[:12]
        assert first in (b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431", b"HTTP/1.1 404", b""), first
        assert (await client.get("/health")).status_code == 200


async def read_until_end_or_line(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n" not in data:
        piece = await stream.receive_some(4096)
        if not piece:
            break
        data += piece
    return data


# --- clients that leave -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_generation(stream: bool) -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    body = json.dumps({**CHAT, "stream": stream}).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    async with running_api(dispatcher) as api:
        for _ in range(5):
            dispatcher.left, dispatcher.entered = trio.Event(), trio.Event()
            async with api.raw() as client:
                await client.send_all(api.head("POST", "/v1/chat/completions", *head) + body)
                await dispatcher.entered.wait()
                if stream:
                    await read_until(client, b"more")
            with trio.fail_after(10):
                await dispatcher.left.wait()
            assert dispatcher.inside == 0


async def test_a_client_that_stops_reading_is_cut_off() -> None:
    dispatcher = Scripted(endless("x" * 65536), forever=True)
    async with running_api(dispatcher, timing=Timing(write_s=0.5)) as api, api.raw() as client:
        await ask_for_a_stream(api, client)
        with trio.fail_after(30):
            await dispatcher.left.wait()
        assert dispatcher.inside == 0


async def test_a_client_that_stops_reading_does_not_hang_the_end() -> None:
    dispatcher = Scripted(endless("x" * 65536), forever=True)
    async with running_api(dispatcher, timing=Timing(write_s=math.inf, graceful_s=0.5)) as api, api.raw() as client:
        await ask_for_a_stream(api, client)
        await dispatcher.entered.wait()
        api.context.draining.set()
        with trio.fail_after(30):
            await dispatcher.left.wait()


async def ask_for_a_stream(api: Api, client: trio.SocketStream, mark: bytes = b"xxx") -> None:
    body = json.dumps({**CHAT, "stream": True}).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    await client.send_all(api.head("POST", "/v1/chat/completions", *head) + body)
    await read_until(client, mark)


async def test_streams_end_with_an_error_event_when_the_node_stops() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    async with running_api(dispatcher) as api, api.raw() as client, api.raw() as idle:
        await idle.send_all(api.head())
        await read_until(idle, b"}")
        body = json.dumps({**CHAT, "stream": True}).encode()
        head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        await client.send_all(api.head("POST", "/v1/chat/completions", *head) + body)
        await read_until(client, b"more")
        api.context.draining.set()
        with trio.fail_after(10):
            rest = await read_all(client)
            assert await read_all(idle) == b""
        assert b'"code":"draining"' in rest
        assert rest.endswith(b"0\r\n\r\n"), "the chunked body was not ended"
        with pytest.raises(OSError):  # noqa: PT012
            stream = await trio.open_tcp_stream("127.0.0.1", api.bound.port)
            await stream.aclose()
