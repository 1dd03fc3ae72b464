"""A mesh of real processes as its users see it: models, chats, headers, and the commands that show and steer it.

A serves SmolLM2; B joined A and serves nothing; C joined B and has never heard of A.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx2
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.kit.meshes import apart, chat, listed, reconciled, sdk, until
from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.slow, pytest.mark.model]

MODEL = "smollm2-135m-instruct:q4_1"
SEEN_S = 5.0
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


class Mesh(NamedTuple):
    """The three; ``seen_s`` is how long after C was ready it listed A's model."""

    a: Node
    b: Node
    c: Node
    seen_s: float


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder, flags = tmp_path_factory.mktemp("mesh"), apart()
    with ExitStack() as stack:

        def start(name: str, *more: str) -> Node:
            return stack.enter_context(running_node(folder / name, *flags, *more))

        a = start("a", "--open", "--model", str(smollm2_path()))
        b = start("b", "--client-only", "--join", a.address)
        c = start("c", "--client-only", "--join", b.address)
        yield Mesh(a, b, c, until(lambda: MODEL in listed(c)))


# --- what a program sees --------------------------------------------------------------------------


def test_a_model_two_steps_away_is_listed_within_seconds(mesh: Mesh) -> None:
    assert mesh.seen_s < SEEN_S
    model = listed(mesh.c)[MODEL]
    assert (model["owned_by"], model["state"], model["context_length"]) == ("mesh", "ready", 8192)
    assert [provider["peer"] for provider in model["providers"]] == [mesh.a.peer]
    assert model["provider_count"] == 1
    assert model["providers"][0]["prices"]["output_uc"] > 0
    assert httpx2.get(f"{mesh.c.api}/v1/models/smollm2-135m-instruct", timeout=10).json() == model
    with sdk(mesh.c) as client:
        assert [one.id for one in client.models.list()] == [MODEL]


def test_a_chat_with_a_peer_is_the_chat_one_has_there(mesh: Mesh) -> None:
    with sdk(mesh.c) as far, sdk(mesh.a) as near:
        there, here = (
            client.chat.completions.create(model=MODEL, messages=HI, max_tokens=24, temperature=0)
            for client in (far, near)
        )
    assert there.choices == here.choices
    assert there.choices[0].finish_reason in ("stop", "length")
    assert there.usage is not None
    assert here.usage is not None
    counts = [(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) for usage in (there.usage, here.usage)]
    assert counts[0] == counts[1]
    assert counts[0][0] > 5
    assert there.model == here.model == MODEL


def test_a_stream_from_a_peer_says_who_answers_and_ends_with_usage(mesh: Mesh) -> None:
    with sdk(mesh.c) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="smollm2-135m-instruct", messages=HI, max_tokens=6, stream=True,
            stream_options={"include_usage": True}, extra_body={"ignore_eos": True},
        )  # fmt: skip
        chunks = list(raw.parse())
    assert raw.headers["x-mesh-node"] == mesh.a.peer
    assert raw.headers["x-mesh-route"].startswith("peer; attempts=1")
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert sum(map(bool, texts)) > 2, "it came in one piece"
    *_, end, usage = chunks
    assert end.choices[0].finish_reason == "length"
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 6


def test_calls_forms_choices_and_vectors_come_from_a_peer_as_from_home(mesh: Mesh) -> None:
    city = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    tool = {"name": "go", "parameters": city | {"additionalProperties": False}}
    called = chat(mesh.c, tools=[{"type": "function", "function": tool}], tool_choice="required", max_tokens=80)
    (call, *_) = called.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "go"
    assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")
    held = chat(mesh.c, guided_choice=["yes", "no"], n=2, logprobs=True, max_tokens=9).json()["choices"]
    assert [choice["message"]["content"] in ("yes", "no") for choice in held] == [True, True]
    assert all(choice["logprobs"]["content"] for choice in held)
    refused = chat(mesh.c, guided_regex="(?=a)b")
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    body = {"input": ["a door"]}
    there, here = (httpx2.post(f"{node.api}/v1/embeddings", json=body, timeout=60).json() for node in (mesh.c, mesh.a))
    assert there["data"] == here["data"]
    until(lambda: reconciled(mesh.c, [mesh.a]), 10)


def test_what_is_wrong_with_a_request_is_said_as_at_home(mesh: Mesh) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 9000}]}
    there, here = chat(mesh.c, **long), chat(mesh.a, **long)
    assert (there.status_code, there.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert here.json()["error"]["code"] == "context_length_exceeded"
    unknown = chat(mesh.c, model="no-such-model")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


# --- what its owner sees --------------------------------------------------------------------------


def test_peers_are_shown_with_what_they_offer_and_how_they_did(mesh: Mesh) -> None:
    assert chat(mesh.c).status_code == 200
    peers = {peer["peer"]: peer for peer in mesh.c.told("peers")["peers"]}
    assert set(peers) == {mesh.a.peer, mesh.b.peer}
    assert peers[mesh.a.peer]["models"] == [MODEL]
    assert peers[mesh.a.peer]["successes"] >= 1
    assert (peers[mesh.a.peer]["failures"], peers[mesh.a.peer]["avoided"]) == (0, "")
    assert peers[mesh.b.peer]["models"] == []
    assert peers[mesh.b.peer]["address"] == mesh.b.address.partition("/p2p/")[0]
    assert peers[mesh.b.peer]["outbound"]
    shown = mesh.c.meshnode("peers").stdout
    assert MODEL in shown
    assert "(out)" in shown


def test_credits_spent_here_are_earned_there(mesh: Mesh) -> None:
    assert chat(mesh.c).status_code == 200
    until(lambda: reconciled(mesh.c, [mesh.a]), 10)
    spent, earned = mesh.c.told("credits"), mesh.a.told("credits")
    assert spent["spent"] == earned["earned"] > 0
    assert (spent["spent_unconfirmed"], earned["earned_unconfirmed"]) == (0, 0)
    assert "Spent" in mesh.c.meshnode("credits").stdout


def test_a_model_kept_back_leaves_the_mesh_and_comes_again(mesh: Mesh) -> None:
    assert mesh.a.told("serve") == {"models": [{"id": MODEL, "served": True}]}
    assert mesh.a.told("unserve", MODEL) == {"id": MODEL, "served": False}
    until(lambda: not listed(mesh.c), SEEN_S)
    assert chat(mesh.c).status_code == 404
    assert chat(mesh.a).status_code == 200, "its owner may still use it"
    assert mesh.a.told("serve", "smollm2-135m-instruct") == {"id": MODEL, "served": True}
    until(lambda: MODEL in listed(mesh.c), SEEN_S)
    assert chat(mesh.c).status_code == 200


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("join", "/ip4/127.0.0.1/tcp/9"), 22, "/p2p/"),
        (("join", "nonsense"), 22, "nonsense"),
        (("unserve", "no-such-model"), 22, "no-such-model"),
        (("serve", "no-such-model"), 22, "no-such-model"),
    ],
)
def test_a_wrong_command_is_one_line(mesh: Mesh, words: tuple[str, ...], code: int, part: str) -> None:
    _one_line(mesh.c.meshnode(*words), code, part)


def test_joining_somebody_else_than_named_is_refused(mesh: Mesh) -> None:
    liar = f"{mesh.b.address.partition('/p2p/')[0]}/p2p/{mesh.c.peer[:-1]}{'x' if mesh.c.peer[-1] != 'x' else 'y'}"
    _one_line(mesh.a.meshnode("join", liar), 24, "somebody else")


def _one_line(done: subprocess.CompletedProcess[str], code: int, part: str) -> None:
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("meshnode: ")
    assert part in line


# --- in good order --------------------------------------------------------------------------------


def test_stopping_a_provider_is_seen_at_once(mesh: Mesh) -> None:
    """Last in this file: A is gone afterwards."""
    assert mesh.a.stop() == 0
    began = time.monotonic()
    until(lambda: not listed(mesh.c), 15)
    assert time.monotonic() - began < SEEN_S
    assert "Traceback" not in mesh.a.log + mesh.b.log + mesh.c.log
    until(lambda: chat(mesh.c).status_code == 404, 10)
