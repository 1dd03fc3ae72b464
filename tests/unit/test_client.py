"""The client against a control socket: what it asks, what it gives back, and how it fails."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.client import Client, open_client, start_command
from meshnode.domain import Message, Role, TextPart
from meshnode.errors import (
    DiskFull,
    Forbidden,
    InternalFault,
    MeshnodeError,
    ModelNotFound,
    NodeNotRunning,
    RequestError,
    ServingError,
    SourceFailed,
    WorkerDied,
)
from tests.kit.fakenode import MODEL, STATUS, Asked, FakeNode, fake_node

QUESTION = [Message(role=Role.USER, parts=(TextPart("Hello?"),))]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with fake_node(tmp_path / "home") as node:
        yield node


@pytest.fixture
def client(node: FakeNode) -> Iterator[Client]:
    with open_client(node.home) as client:
        yield client


# --- questions ------------------------------------------------------------------------------------


def test_status_is_typed_and_ignores_what_this_version_does_not_know(node: FakeNode, client: Client) -> None:
    node.json("GET /api/status", STATUS | {"news": {"from": "later"}})
    status = client.status()
    assert status.peer_id == "12D3KooWtest"
    assert [model.decode_tps for model in status.models] == [125.4, None]
    assert status.devices[0].description == "Some CPU"


def test_models_are_typed(node: FakeNode, client: Client) -> None:
    node.json("GET /api/models", {"models": [MODEL]})
    (model,) = client.models()
    assert (model.id, model.size, model.state, model.managed) == (MODEL["id"], MODEL["size"], "ready", True)


def test_a_models_name_is_one_piece_of_the_path(node: FakeNode, client: Client) -> None:
    node.json("DELETE /api/models/a%2F..%2Fb:q8_0", {"id": "b:q8_0", "deleted": True})
    assert client.remove("a/../b:q8_0") == "b:q8_0"


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a" * 257, "a" * 100_000])
def test_what_can_be_no_models_name_is_not_asked_for(node: FakeNode, client: Client, name: str) -> None:
    for ask in (client.remove, client.load, client.unload):
        with pytest.raises(ModelNotFound, match="name"):
            ask(name)
    assert node.asked == []


def test_bodies_are_json_even_when_there_is_nothing_to_say(node: FakeNode, client: Client) -> None:
    node.json("POST /api/stop", {"stopping": True})
    node.json("POST /api/models/scan", {"models": [MODEL]})
    node.json("POST /api/models/a/load", {"model": MODEL})
    node.json("POST /api/models/a/unload", {"model": MODEL | {"state": "unloaded"}})
    client.stop()
    assert [model.id for model in client.scan()] == [MODEL["id"]]
    assert client.load("a").state == "ready"
    assert client.unload("a").state == "unloaded"
    assert [asked.body for asked in node.asked] == [{}] * 4


def test_a_file_is_added_by_its_path_from_the_root(
    node: FakeNode, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    node.json("POST /api/models/add", {"model": MODEL})
    client.add(Path("x.gguf"), name="mine")
    assert node.asked == [Asked("POST", "/api/models/add", {"path": str(tmp_path / "x.gguf"), "name": "mine"})]


def test_what_is_kept_is_told_and_forgotten(node: FakeNode, client: Client) -> None:
    node.json("GET /api/history", {"enabled": False, "kept": {"job": 3}})
    node.json("DELETE /api/history", {"enabled": False, "kept": {"job": 3}})
    assert client.history() == client.clear_history()
    assert (client.history().enabled, client.history().kept) == (False, {"job": 3})


# --- the mesh -------------------------------------------------------------------------------------


def test_the_mesh_is_asked_as_the_api_has_it(node: FakeNode, client: Client) -> None:
    node.json("GET /api/peers", {"peers": [{"peer": "12D3a", "connected": True, "news": 1}]})
    node.json("GET /api/credits", {"earned": 5, "balance": 5, "channels": [{"role": "provider", "peer": "12D3a"}]})
    node.json("POST /api/mesh/join", {"peer": "12D3a"})
    node.json("POST /api/mesh/leave", {"forgotten": 2})
    node.json("GET /api/mesh/served", {"models": [{"id": "a", "served": True}]})
    node.json("POST /api/mesh/serve", {"id": "a", "served": False})
    assert [(peer.peer, peer.connected, peer.rtt_s) for peer in client.peers()] == [("12D3a", True, None)]
    assert (client.credits().earned, client.credits().channels[0].role) == (5, "provider")
    assert (client.join("/dns4/a.example/tcp/1/p2p/12D3a"), client.leave()) == ("12D3a", 2)
    assert [each.served for each in client.served()] == [True]
    assert not client.serve("a", False).served
    assert [asked.body for asked in node.asked if asked.method == "POST"] == [
        {"address": "/dns4/a.example/tcp/1/p2p/12D3a"}, {}, {"model": "a", "on": False},
    ]  # fmt: skip


# --- streams --------------------------------------------------------------------------------------


def test_a_pull_tells_how_far_it_is_to_the_end(node: FakeNode, client: Client) -> None:
    node.lines(
        "POST /api/models/pull",
        '{"phase": "fetch", "done": 1, "total": 2, "model": null}',
        "",
        '{"phase": "done", "done": 2, "total": 2, "model": "a:q8_0"}',
    )
    steps = list(client.pull("default"))
    assert [(step.phase, step.done, step.model) for step in steps] == [("fetch", 1, None), ("done", 2, "a:q8_0")]


@pytest.mark.parametrize(("code", "kind"), [("source_failed", SourceFailed), ("disk_full", DiskFull)])
def test_a_pull_that_fails_raises_what_the_node_said(
    node: FakeNode, client: Client, code: str, kind: type[MeshnodeError]
) -> None:
    said = f'{{"error": {{"message": "no such file. Try another.", "type": "x", "code": "{code}"}}}}'
    node.lines("POST /api/models/pull", '{"phase": "fetch", "done": 1}', said)
    with pytest.raises(kind, match=r"no such file\. Try another\."):
        list(client.pull("https://example.org/x.gguf"))


def test_an_answer_comes_piece_by_piece(node: FakeNode, client: Client) -> None:
    node.lines(
        "POST /v1/chat/completions",
        ": waiting, place 1",
        'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": null}',
        "",
        'data: {"choices": [{"index": 0, "delta": {"content": "Good "}}]}',
        'data: {"choices": [{"index": 0, "delta": {"content": "day."}}]}',
        'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
        'data: {"choices": []}',
        "data: [DONE]",
    )
    assert list(client.chat(QUESTION, model="a")) == ["Good ", "day."]
    assert node.asked[0].body == {
        "messages": [{"role": "user", "content": "Hello?"}], "stream": True, "model": "a",
    }  # fmt: skip


def test_an_answer_may_speak_of_errors(node: FakeNode, client: Client) -> None:
    node.lines("POST /v1/chat/completions", r'data: {"choices": [{"delta": {"content": "an \"error\""}}]}')
    assert list(client.chat(QUESTION)) == ['an "error"']


def test_an_answer_that_breaks_raises_what_broke_it(node: FakeNode, client: Client) -> None:
    node.lines(
        "POST /v1/chat/completions",
        'data: {"choices": [{"delta": {"content": "Good "}}]}',
        'data: {"error": {"message": "the worker died.", "type": "server_error", "code": "worker_died"}}',
    )
    pieces = client.chat(QUESTION)
    assert next(pieces) == "Good "
    with pytest.raises(WorkerDied, match="the worker died"):
        next(pieces)


def test_a_reader_that_leaves_hangs_up(node: FakeNode, client: Client) -> None:
    many = ['data: {"choices": [{"delta": {"content": "' + "x" * 4000 + '"}}]}'] * 2000
    node.lines("POST /v1/chat/completions", *many)
    pieces = client.chat(QUESTION)
    next(pieces)
    pieces.close()
    assert node.left.wait(30)


# --- how it fails ---------------------------------------------------------------------------------


def test_without_a_socket_it_says_how_to_start_a_node(tmp_path: Path) -> None:
    with pytest.raises(NodeNotRunning, match=f"meshnode up --home {tmp_path}"), open_client(tmp_path):
        pytest.fail("there is nothing to talk to")


def test_a_dead_socket_is_no_node_either(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NodeNotRunning), open_client(tmp_path):
        pytest.fail("nobody listens")


def test_the_default_home_needs_no_flag() -> None:
    assert start_command(Path.home() / ".meshnode") == "meshnode up"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_somebody_elses_socket_is_told_apart_from_none(node: FakeNode) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Forbidden, match="another user"), open_client(node.home):
            pytest.fail("a stranger got in")
    finally:
        os.seteuid(0)


def test_a_node_that_ends_in_mid_answer_is_told(node: FakeNode, client: Client) -> None:
    node.lines("POST /v1/chat/completions", 'data: {"choices": [{"delta": {"content": "Go"}}]}', cut=True)
    with pytest.raises(NodeNotRunning, match="ended before"):
        list(client.chat(QUESTION))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "model_not_found", ModelNotFound),
        (418, "from_a_later_version", RequestError),
        (500, "from_a_later_version", ServingError),
    ],
)
def test_an_error_of_the_node_is_the_class_its_code_names(
    node: FakeNode, client: Client, status: int, code: str, kind: type[MeshnodeError]
) -> None:
    node.error("GET /api/models", status, code, "nothing is called x. Did you mean y?")
    with pytest.raises(kind) as caught:
        client.models()
    assert str(caught.value) == "nothing is called x. Did you mean y?"


def test_an_error_without_an_envelope_is_an_error_still(node: FakeNode, client: Client) -> None:
    node.json("GET /api/models", "oops", status=502)
    with pytest.raises(ServingError, match="HTTP 502"):
        client.models()


def test_an_answer_of_another_shape_asks_about_versions(node: FakeNode, client: Client) -> None:
    node.json("GET /api/status", {"version": 3})
    with pytest.raises(InternalFault, match="one version"):
        client.status()
