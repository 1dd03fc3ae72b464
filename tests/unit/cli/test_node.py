"""``status``, ``id`` and ``stop``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from meshnode.identity import load_or_create
from meshnode.storage.home import lock, prepare
from tests.kit.fakenode import STATUS, FakeNode
from tests.unit.cli.conftest import Shell


def test_status_says_where_the_layers_are_how_fast_and_what_failed(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    ran = shell("status")
    assert ran.code == 0
    for words in ("up 3 min 20 s", "http://127.0.0.1:9337/v1", "12D3KooWtest", "Some CPU", "0/30", "125", "8192"):
        assert words in ran.out
    assert "big:q4_k_m: not enough memory" in ran.out


def test_status_as_json_is_the_nodes_own(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    told = json.loads(shell("status", "--json").out)
    assert told == STATUS
    assert {"peer_id", "addresses", "api", "models"} <= told.keys()


def test_status_without_models_says_how_to_get_one(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS | {"models": []})
    assert "meshnode pull default" in shell("status").out


def test_status_says_how_the_mesh_is(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    assert "meshnode join ADDR" in shell("status").out
    node.json("GET /api/status", STATUS | {"mesh": {"joined": True, "peers": 1, "models": 3}})
    assert "joined; 1 peer connected, 3 models there" in shell("status").out
    node.json("GET /api/status", STATUS | {"models": [], "mesh": {"joined": True, "models": 3, "client_only": True}})
    assert "`meshnode models` lists those of the mesh" in shell("status").out
    node.json("GET /api/status", STATUS | {"models": [], "mesh": {"joined": True, "client_only": True}})
    assert "meshnode pull" not in shell("status").out


def test_a_node_that_stops_says_so(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS | {"draining": True})
    assert "stopping" in shell("status").out


def test_id_asks_the_node(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    assert shell("id").out == "12D3KooWtest\n"
    assert json.loads(shell("id", "--json").out) == {"peer_id": "12D3KooWtest", "addresses": STATUS["addresses"]}


def test_id_reads_the_keys_when_no_node_runs(shell: Shell, home: Path) -> None:
    peer_id = load_or_create(prepare(home), os.urandom).peer_id
    assert shell("id").out == f"{peer_id}\n"


@pytest.mark.parametrize("prepared", [True, False])
def test_id_makes_no_key(shell: Shell, home: Path, prepared: bool) -> None:
    if prepared:
        prepare(home)
    before = sorted(home.rglob("*"))
    assert shell("id").code == 3
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize("home", ["x" * 300, "x/" * 3000], ids=["name", "path"])
def test_id_of_a_home_that_can_be_none_says_what_to_do(shell: Shell, home: str) -> None:
    assert shell("id", "--home", home).code == 3


def test_stop_asks_and_waits_until_the_home_is_free(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/stop", {"stopping": True})
    assert shell("stop") == (0, "Stopped.\n", "")
    assert json.loads(shell("stop", "--json").out) == {"stopped": True}


def test_stop_says_when_the_node_goes_on(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/stop", {"stopping": True})
    with lock(node.home):
        ran = shell("stop", "--timeout", "0.2")
    assert ran.code == 23
    assert f"kill -9 {os.getpid()}" in ran.err
