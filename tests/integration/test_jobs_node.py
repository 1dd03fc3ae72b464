"""What a real node keeps: over a kill -9 and a stop, sealed on the disk, forgotten when its owner says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.kit.node import Node, running_node
from tests.kit.tinygguf import write_tiny_gguf

pytestmark = pytest.mark.slow

CANARY = "canary-8c3e"
LONG = {"messages": [{"role": "user", "content": f"{CANARY} go on"}], "max_tokens": 1500, "ignore_eos": True}
SHORT = {"messages": [{"role": "user", "content": f"{CANARY} hello"}], "max_tokens": 4, "ignore_eos": True}
DONE_S = 120.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny-q8_0.gguf")


@contextmanager
def started(home: Path, tiny: Path, *flags: str) -> Iterator[tuple[Node, httpx2.Client]]:
    """A node on the home, and a client of it."""
    with (
        running_node(home, "--model", str(tiny), *flags) as node,
        httpx2.Client(base_url=node.api, timeout=60, trust_env=False) as client,
    ):
        yield node, client


def begun(client: httpx2.Client) -> str:
    """The id of a long job in the background that has said its first words."""
    with client.stream("POST", "/v1/chat/completions", json={**LONG, "async_mode": True, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and '"content":"' in line.replace('"content":""', ""):
                return str(json.loads(line.removeprefix("data: "))["id"])
    raise AssertionError("the answer was empty")


def until(client: httpx2.Client, id_: str) -> dict[str, Any]:
    deadline = time.monotonic() + DONE_S
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{id_}").raise_for_status().json()
        if job["status"] not in ("queued", "in_progress"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"not over within {DONE_S:g} s")


def holds(home: Path, text: str) -> list[str]:
    """Files of the home in which the text stands."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_a_job_survives_a_kill_and_a_stop_and_nothing_of_it_stands_in_the_home(tmp_path: Path, tiny: Path) -> None:
    home = tmp_path / "home"
    with started(home, tiny) as (node, client):
        stored = client.post("/v1/chat/completions", json={**SHORT, "store": True}).raise_for_status().json()
        id_ = begun(client)
        assert holds(home, id_), "the write-ahead log has the row"
        assert holds(home, CANARY) == []
        node.kill()
    assert holds(home, CANARY) == []
    with started(home, tiny) as (node, client):
        assert client.get(f"/v1/jobs/{id_}").json()["status"] in ("queued", "in_progress")
        assert node.stop() == 0
    with started(home, tiny) as (node, client):
        job = until(client, id_)
        assert job["status"] == "completed", job["error"]
        assert job["result"]["usage"]["completion_tokens"] == LONG["max_tokens"]
        assert client.get(f"/v1/jobs/{stored['id']}").json()["result"] == stored
        assert node.told("history")["kept"] == {"job": 2}
        assert node.told("history", "clear", "--yes")["kept"] == {"job": 2}
        assert client.get(f"/v1/jobs/{id_}").status_code == 404
    assert holds(home, CANARY) == []
    assert CANARY not in node.log


def test_a_node_that_keeps_nothing_makes_no_key_and_says_what_it_refuses(tmp_path: Path, tiny: Path) -> None:
    home = tmp_path / "home"
    with started(home, tiny, "--no-store") as (node, client):
        for field in ("store", "async_mode"):
            answer = client.post("/v1/chat/completions", json={**SHORT, field: True})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        assert client.post("/v1/chat/completions", json=SHORT).status_code == 200
        assert node.told("history") == {"enabled": False, "kept": {}}
    assert not (home / "vault.key").exists()
