"""The server: sockets, TLS, the control socket, and the end."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trio

from meshnode.api.server import Timing
from meshnode.config import ApiSettings
from meshnode.errors import HomeUnusable, MeshnodeError, PortInUse, UnsafeBind
from meshnode.gateway.keys import hash_of, new_key, parse_keys
from tests.kit.api import CHAT, Scripted, endless, read_all, read_until, running_api
from tests.kit.certificates import self_signed


async def refusal(**fields: object) -> MeshnodeError:
    with pytest.RaisesGroup(MeshnodeError, flatten_subgroups=True) as caught:
        async with running_api(**fields):  # type: ignore[arg-type]
            pass
    leaf: BaseException = caught.value
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, MeshnodeError)
    return leaf


async def test_tls_is_served_to_the_names_of_the_certificate_and_to_no_other(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "node.example")
    settings = ApiSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key)
    trust = ssl.create_default_context(cafile=str(cert))
    async with running_api(settings=settings) as api:
        assert api.url.startswith("https://")
        async with httpx2.AsyncClient(base_url=api.url, verify=trust, trust_env=False) as client:
            for host, status in (("127.0.0.1", 200), ("node.example", 200), ("evil.test", 403)):
                answer = await client.get("/v1/models", headers={"host": f"{host}:{api.bound.port}"})
                assert answer.status_code == status, host


async def test_a_client_that_never_finishes_the_handshake_is_let_go(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    settings = ApiSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key, header_timeout_s=0.2)
    async with running_api(settings=settings) as api, api.raw() as stream:
        await stream.send_all(b"\x16\x03\x01")
        with trio.fail_after(10):
            await read_all(stream)


async def test_one_in_the_middle_of_its_handshake_makes_room_for_the_next(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "node.example")
    settings = ApiSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key, header_timeout_s=600, max_connections=1)
    async with running_api(settings=settings) as api, api.raw() as silent, api.raw():
        with trio.fail_after(20):
            assert await read_all(silent) == b""


async def test_with_local_key_a_key_of_the_key_file_opens_v1_and_nothing_else() -> None:
    key = new_key(os.urandom(32))
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with running_api(settings=settings, keys=parse_keys(hash_of(key))) as api, api.client() as client:
        bearer = {"authorization": f"Bearer {key}"}
        assert (await client.post("/v1/chat/completions", json=CHAT, headers=bearer)).status_code == 200
        assert api.scripted.requests[0].caller.startswith("key:")
        assert (await client.get("/api/models", headers=bearer)).status_code == 401


async def test_a_start_that_cannot_be_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = ApiSettings(address=f"127.0.0.1:{other.getsockname()[1]}")
        assert isinstance(await refusal(settings=taken, control_socket=tmp_path / "c"), PortInUse)
    assert isinstance(await refusal(settings=ApiSettings(address="0.0.0.0:0")), UnsafeBind)
    assert isinstance(await refusal(control_socket=tmp_path / "none" / "c"), HomeUnusable)
    assert os.listdir(tmp_path) == []


async def test_the_control_socket_is_the_owners_door(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with running_api(control_socket=path):
        transport = httpx2.AsyncHTTPTransport(uds=str(path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as owner:
            assert (await owner.get("/api/models")).status_code == 200
            assert (await owner.get("/api/models", headers={"origin": "https://evil.test"})).status_code == 403
    assert not path.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user is made of it")
async def test_another_user_gets_nothing_over_the_control_socket_even_if_the_file_let_them(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    ask = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "s = socket.socket(socket.AF_UNIX);"
        "s.settimeout(20); s.connect(sys.argv[1]); s.sendall(b'GET /api/models HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');"
        "print(s.recv(100))"
    )
    async with running_api(control_socket=path):
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        closed = await trio.run_process([sys.executable, "-c", ask, str(path)], check=False, capture_stderr=True)
        assert b"PermissionError" in closed.stderr
        path.chmod(0o666)
        opened = await trio.run_process(
            [sys.executable, "-c", ask, str(path)], check=False, capture_stdout=True, stderr=subprocess.DEVNULL
        )
    assert b"HTTP" not in opened.stdout


async def test_the_end_lets_idle_clients_go_at_once_and_cuts_the_others_in_time() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    async with running_api(dispatcher, timing=Timing(graceful_s=30)) as api, api.raw() as idle, api.raw() as slow:
        await idle.send_all(api.head())
        await read_until(idle, b"}")
        await slow.send_all(b"POST /v1/chat/completions HTTP/1.1\r\n")
        api.context.draining.set()
        with trio.fail_after(10):
            await read_all(idle)
            await read_all(slow)


async def test_the_control_socket_answers_until_the_end_of_stop(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with running_api(control_socket=path) as api:
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(b"POST /api/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        answer = await read_until(stream, b"true}")
        assert b" 200 " in answer
        assert api.stopped == [True]
        await stream.aclose()
