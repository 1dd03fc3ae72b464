"""A batch on a real node and model, over a stop and a kill -9 in the middle of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.kit.batches import a_line, jsonl
from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path

LINES = 12
CANARY = "canary-5e1f"
DONE_S = 120.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def on(node: Node) -> httpx2.Client:
    return httpx2.Client(base_url=node.api, timeout=60, trust_env=False)


def begin(client: httpx2.Client) -> str:
    """A batch of some short chats and one line that is wrong; gives its id."""
    lines = [a_line(f"l{n}", f"{CANARY} Count to {n}.", model=None, max_tokens=24, seed=n) for n in range(LINES)]
    content = jsonl(*lines, a_line("wrong", temperature=9))
    sent = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    wanted = {
        "input_file_id": sent.raise_for_status().json()["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    return str(client.post("/v1/batches", json=wanted).raise_for_status().json()["id"])


def until(client: httpx2.Client, id_: str, completed: int) -> dict[str, Any]:
    """The batch, once so many of its lines are answered."""
    deadline = time.monotonic() + DONE_S
    while time.monotonic() < deadline:
        batch: dict[str, Any] = client.get(f"/v1/batches/{id_}").raise_for_status().json()
        if batch["request_counts"]["completed"] >= completed and (completed < LINES or batch["output_file_id"]):
            return batch
        if batch["status"] == "completed":
            break
        time.sleep(0.05)
    raise AssertionError(f"not there, after {DONE_S:g} s at most: {batch}")


def rows(client: httpx2.Client, file: str) -> list[dict[str, Any]]:
    text = client.get(f"/v1/files/{file}/content").raise_for_status().text
    return [json.loads(line) for line in text.splitlines()]


def test_a_node_that_is_stopped_and_killed_in_the_middle_goes_on_and_answers_each_line_once(home: Path) -> None:
    model = str(smollm2_path())
    with running_node(home, "--model", model) as node, on(node) as client:
        id_ = begin(client)
        stopped = until(client, id_, 2)
        assert node.stop() == 0
    with running_node(home, "--model", model) as node, on(node) as client:
        killed = until(client, id_, stopped["request_counts"]["completed"] + 2)
        node.kill()
    assert [stopped["status"], killed["status"]] == ["in_progress", "in_progress"]
    with running_node(home, "--model", model) as node, on(node) as client:
        batch = until(client, id_, LINES)
        right = rows(client, batch["output_file_id"])
        wrong = rows(client, batch["error_file_id"])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": LINES + 1, "completed": LINES, "failed": 1}
    assert sorted(row["custom_id"] for row in right) == sorted(f"l{n}" for n in range(LINES))
    assert all(row["response"]["body"]["usage"]["completion_tokens"] for row in right)
    assert [row["custom_id"] for row in wrong] == ["wrong"]
    files = [path for path in home.rglob("*") if path.is_file() and path.suffix != ".gguf"]
    assert not any(CANARY.encode() in path.read_bytes() for path in files), "what is kept is sealed"
