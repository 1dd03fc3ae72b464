"""A real node as a process: what its user sees in good and bad hours."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import httpx2
import pytest
import trio

from tests.kit.node import Node, command, environment, running_node
from tests.kit.tinygguf import hostile_ggufs, write_tiny_gguf

pytestmark = pytest.mark.slow

LONG = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 1500, "ignore_eos": True, "stream": True}
SHORT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "ignore_eos": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny-q8_0.gguf")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("node") / "home", "--model", str(tiny)) as node:
        yield node


@pytest.fixture
def own(tmp_path: Path, tiny: Path) -> Iterator[Node]:
    with running_node(tmp_path / "home", "--model", str(tiny)) as node:
        yield node


def client(node: Node) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=node.api, timeout=60)


@asynccontextmanager
async def streamed(node: Node, body: dict[str, object]) -> AsyncIterator[AsyncIterator[str]]:
    """Lines of a streamed answer whose first text is here."""
    async with (
        client(node) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
        aclosing(cast(AsyncGenerator[str, None], response.aiter_lines())) as lines,
    ):
        while '"content":"' not in (await anext(lines)).replace('"content":""', ""):
            pass
        yield lines


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Poll an outside fact (another process's state) until it holds."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  the fact lives in another process, which sets no event
            await trio.sleep(0.02)


def chunks(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


# --- good hours ---------------------------------------------------------------------------------


async def test_a_chat_answers_in_one_shot_and_as_a_stream_with_usage(shared: Node) -> None:
    async with client(shared) as http:
        whole = (await http.post("/v1/chat/completions", json=SHORT)).raise_for_status().json()
        assert whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 4
        body = {**SHORT, "stream": True, "stream_options": {"include_usage": True}}
        lines = chunks((await http.post("/v1/chat/completions", json=body)).text)
    assert lines[-1] == "[DONE]"
    last = json.loads(lines[-2])
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4


async def test_a_seed_repeats_the_answer_whatever_runs_beside_it(shared: Node) -> None:
    body = {**SHORT, "max_tokens": 24, "temperature": 1.0, "seed": 7}
    answers: list[str] = []

    async def ask(seed: int) -> None:
        async with client(shared) as http:
            got = (await http.post("/v1/chat/completions", json={**body, "seed": seed})).raise_for_status().json()
        if seed == 7:
            answers.append(got["choices"][0]["message"]["content"])

    await ask(7)
    async with trio.open_nursery() as nursery:
        for seed in [7, 8, 9, 7, 10]:
            nursery.start_soon(ask, seed)
    assert len(answers) == 3
    assert len(set(answers)) == 1


async def test_status_says_where_the_layers_are_and_how_fast(shared: Node) -> None:
    status = shared.status()
    assert status["peer_id"].startswith("12D3KooW")
    assert all(address.endswith("/p2p/" + status["peer_id"]) for address in status["addresses"])
    (model,) = [each for each in status["models"] if each["state"] == "ready"]
    assert model["gpu_layers"] == 0
    assert model["decode_tps"] > 0
    assert "home" not in status


async def test_metrics_count_what_was_served(shared: Node) -> None:
    async with client(shared) as http:
        await http.post("/v1/chat/completions", json=SHORT)
        text = (await http.get("/metrics")).text
    names = ["requests_processing", "completion_tokens_total", "time_to_first_token", "queue_length", "loop_lag"]
    for name in names:
        assert f"meshnode_{name}" in text


async def test_too_long_a_prompt_is_refused_with_both_numbers(shared: Node) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 9000}]}
    async with client(shared) as http:
        answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert sum(part.strip(".,").isdigit() for part in error["message"].split()) >= 2


def test_keys_socket_and_database_are_the_owners_alone(shared: Node) -> None:
    for name in ["peer.key", "ledger.key", "control.sock"]:
        mode = stat.S_IMODE((shared.home / name).stat().st_mode)
        assert mode == 0o600, name
    assert stat.S_IMODE(shared.home.stat().st_mode) == 0o700


# --- clients that leave, many clients -----------------------------------------------------------


async def test_a_hundred_clients_that_leave_at_random_moments_leave_nothing_behind(own: Node) -> None:
    dice = random.Random(4)

    async def leave_somewhere(delay: float, stream: bool) -> None:
        with trio.move_on_after(delay):
            async with client(own) as http:
                await http.post("/v1/chat/completions", json={**LONG, "stream": stream})

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(leave_somewhere, dice.uniform(0.0, 2.0), number % 2 == 0)
    await until(lambda: sum(m["running"] + m["waiting"] for m in own.status()["models"]) == 0)
    async with client(own) as http:
        assert (await http.post("/v1/chat/completions", json=SHORT)).status_code == 200
    assert len(own.workers()) == 1


async def test_two_hundred_clients_at_once_are_all_answered(own: Node) -> None:
    answered: list[int] = []

    async def ask() -> None:
        async with httpx2.AsyncClient(base_url=own.api, timeout=120) as http:
            got = await http.post("/v1/chat/completions", json=SHORT)
            assert got.json()["usage"]["completion_tokens"] == 4
            answered.append(got.status_code)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
    assert answered == [200] * 200


# --- deaths -------------------------------------------------------------------------------------


async def test_a_killed_worker_is_a_typed_error_within_a_second_and_then_comes_back(own: Node) -> None:
    (worker,) = own.workers()
    async with streamed(own, LONG) as lines:
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        rest = [line async for line in lines]
    assert time.monotonic() - killed < 5  # a second by design; the bound leaves room for a busy machine
    assert any("worker_died" in line for line in rest)
    await until(lambda: own.workers() not in ([], [worker]))
    async with client(own) as http:
        with trio.fail_after(30):
            assert (await http.post("/v1/chat/completions", json=SHORT)).status_code == 200
    assert own.status()["models"][0]["restarts"] == 1


async def test_a_killed_daemon_takes_its_worker_along_and_starts_again(tmp_path: Path, tiny: Path) -> None:
    home = tmp_path / "home"
    with running_node(home, "--model", str(tiny)) as node:
        (worker,) = node.workers()
        peer_id = node.status()["peer_id"]
        with pytest.raises(httpx2.TransportError):
            await _read_on_after(node.process.kill, node)
        await until(lambda: not Path(f"/proc/{worker}").exists())
    with running_node(home, "--model", str(tiny)) as again:
        assert again.status()["peer_id"] == peer_id
        async with client(again) as http:
            assert (await http.post("/v1/chat/completions", json=SHORT)).status_code == 200


async def _read_on_after(event: Callable[[], None], node: Node) -> None:
    async with streamed(node, LONG) as lines:
        event()
        async for _ in lines:
            pass


async def test_sigterm_ends_a_stream_with_an_error_event_and_exits_cleanly(own: Node) -> None:
    async with streamed(own, LONG) as lines:
        own.process.terminate()
        rest = [line async for line in lines]
    assert any('"code":"draining"' in line.replace(" ", "") for line in rest)
    assert await trio.to_thread.run_sync(own.process.wait, 15) == 0
    assert "Traceback" not in own.log


def test_a_second_signal_does_not_wait(own: Node) -> None:
    own.process.send_signal(signal.SIGINT)
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(15) in (0, 130)


async def test_no_prompt_or_answer_is_left_in_the_home_or_the_log(own: Node) -> None:
    canary = "zebra-canary-8c1f"
    async with client(own) as http:
        body = {**SHORT, "messages": [{"role": "user", "content": canary}]}
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await http.post("/v1/chat/completions", json={**body, "nonsense": canary})).status_code == 400
    (worker,) = own.workers()
    os.kill(worker, signal.SIGSEGV)
    await until(lambda: own.workers() not in ([], [worker]))
    own.stop()
    kept = [path for path in own.home.rglob("*") if path.is_file()]
    assert len(kept) > 3
    for path in [*kept, own.log_path]:
        assert canary.encode() not in path.read_bytes(), path
    assert not list(Path.cwd().glob("core*"))


# --- hostile and broken things ------------------------------------------------------------------


def test_a_model_file_that_cannot_be_loaded_fails_alone(own: Node, tmp_path: Path) -> None:
    for name, path in hostile_ggufs(tmp_path).items():
        listed = _meshnode(own.home, "models", "add", str(path))
        if listed.returncode == 0:
            body = {**SHORT, "model": path.stem}
            answer = httpx2.post(f"{own.api}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code >= 400, name
            assert answer.json()["error"]["message"], name
        else:
            assert listed.returncode in (19, 20), (name, listed.stderr)
            assert b"Traceback" not in listed.stderr
    answer = httpx2.post(f"{own.api}/v1/chat/completions", json={**SHORT, "model": "tiny"}, timeout=60)
    assert answer.status_code == 200


def _meshnode(home: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    import sys

    line = [sys.executable, "-m", "meshnode", *words, "--home", str(home)]
    return subprocess.run(line, capture_output=True, timeout=60, env=environment(), check=False)


def _refused(home: Path, *flags: str, code: int, **extra: str) -> str:
    """Start a node that must not start; gives its one line."""
    got = subprocess.run(command(home, *flags), capture_output=True, timeout=60, env=environment(**extra), check=False)
    text = got.stderr.decode()
    assert got.returncode == code, text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("meshnode:")]
    assert len(lines) == 1, text
    return lines[0]


def test_a_second_node_on_the_same_home_is_told_who_has_it(shared: Node) -> None:
    assert str(shared.process.pid) in _refused(shared.home, "--no-engine", code=14)


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _refused(tmp_path / "home", "--no-engine", "--api", f"127.0.0.1:{port}", code=12)
    assert str(port) in line
    assert "--api" in line


def test_an_unknown_key_of_the_config_is_named_with_its_neighbour(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text("[engine]\nthread = 3\n")
    line = _refused(home, "--no-engine", code=10)
    assert "engine.thread" in line
    assert "engine.threads" in line


def test_a_damaged_key_is_kept_and_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running_node(home, "--no-engine"):
        pass
    damaged = (home / "peer.key").read_bytes()[:-9]
    (home / "peer.key").write_bytes(damaged)
    assert "peer.key" in _refused(home, "--no-engine", code=15)
    assert (home / "peer.key").read_bytes() == damaged


def test_off_loopback_it_does_not_start_without_key_and_tls(tmp_path: Path) -> None:
    line = _refused(tmp_path / "home", "--no-engine", "--api", "0.0.0.0:0", code=11)
    assert "api.key_file" in line
    assert "api.tls_cert" in line


def test_a_home_that_is_a_file_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in _refused(tmp_path / "file", "--no-engine", code=13)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=True)
    try:
        filler = disk / "filler"
        filler.write_bytes(b"\0" * 508 * 1024)
        assert str(disk) in _refused(disk / "home", "--no-engine", code=17)
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        with running_node(disk / "home", "--no-engine") as node:
            assert node.status()["models"] == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# --- sleep --------------------------------------------------------------------------------------


async def test_a_laptop_that_slept_goes_on_where_it_was(own: Node) -> None:
    everyone = [own.process.pid, *own.workers()]
    async with streamed(own, {**LONG, "max_tokens": 400}) as lines:
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: all(_state(pid) == "T" for pid in everyone))
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        rest = [line async for line in lines]
    assert rest[-2:] == ["data: [DONE]", ""]
    assert own.status()["models"][0]["restarts"] == 0


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# --- peers --------------------------------------------------------------------------------------


async def test_a_node_that_is_told_to_join_another_connects_to_it(shared: Node, tmp_path: Path) -> None:
    address = shared.status()["addresses"][0]
    with running_node(tmp_path / "home", "--no-engine", "--join", address) as guest:
        await until(lambda: "peer_connected" in guest.log)


def test_a_wrong_address_to_join_is_named(tmp_path: Path) -> None:
    assert "/p2p/" in _refused(tmp_path / "home", "--no-engine", "--join", "/ip4/127.0.0.1/tcp/9", code=10)


def test_an_unknown_model_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    line = _refused(tmp_path / "home", "--model", "no-such-model", code=22)
    assert "no-such-model" in line
    assert not list((tmp_path / "home" / "models").glob("*.gguf"))
