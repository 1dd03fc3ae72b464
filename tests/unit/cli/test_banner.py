"""What ``up`` says when it is ready."""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple

from meshnode.cli.banner import as_object, curl_line, render


class Model(NamedTuple):
    """A loaded model."""

    id: str = "smollm2-135m-instruct:q4_1"
    parameters: int = 134_515_008
    context_length: int = 8192
    layers: int = 30
    gpu_layers: int = 0
    devices: tuple[str, ...] = ("Some CPU",)
    decode_tps: float = 125.4


class Ready(NamedTuple):
    """A started node."""

    api: tuple[str, ...] = ("http://127.0.0.1:9337/v1", "http://[::1]:9337/v1")
    models: tuple[Model, ...] = (Model(),)
    peer_id: str = "12D3KooWtest"
    addresses: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/9338/p2p/12D3KooWtest",)
    mesh: str = "alone: `meshnode join ADDR`"
    notes: tuple[str, ...] = ()


def test_it_says_where_what_how_fast_and_who() -> None:
    text = render(Ready())
    for words in (
        "http://127.0.0.1:9337/v1", "http://[::1]:9337/v1", "http://127.0.0.1:9337/\n", "smollm2-135m-instruct:q4_1",
        "8192", "Some CPU, no layer on a GPU", "125 tokens/s", "12D3KooWtest", "/ip4/127.0.0.1/tcp/9338/p2p/",
    ):  # fmt: skip
        assert words in text


def test_layers_on_a_gpu_are_counted() -> None:
    text = render(Ready(models=(Model(gpu_layers=28, devices=("CUDA0",)),)))
    assert "CUDA0, 28 of 30 layers on the GPU" in text


def test_the_curl_line_is_one_line_that_a_shell_takes_apart_rightly() -> None:
    line = curl_line("http://127.0.0.1:9337/v1")
    words = shlex.split(line)
    assert line in render(Ready())
    assert words[:2] == ["curl", "http://127.0.0.1:9337/v1/chat/completions"]
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    assert json.loads(words[words.index("-d") + 1])["messages"][0]["role"] == "user"


def test_a_small_model_is_said_to_be_small_and_a_large_one_is_not() -> None:
    assert "135 M parameters: it answers simple questions only" in render(Ready())
    assert "simple questions" not in render(Ready(models=(Model(parameters=8_000_000_000),)))


def test_it_says_whether_the_node_is_in_a_mesh() -> None:
    assert "  Mesh       alone: `meshnode join ADDR`\n" in render(Ready())
    assert as_object(Ready(mesh="public, 2 peers."))["mesh"] == "public, 2 peers."


def test_notes_are_said_as_they_are() -> None:
    assert "qwen3-4b fits this machine: meshnode pull hf:x/y:q4" in render(
        Ready(notes=("qwen3-4b fits this machine: meshnode pull hf:x/y:q4",))
    )


def test_without_a_model_there_is_nothing_to_try() -> None:
    text = render(Ready(models=()))
    assert "none loaded" in text
    assert "curl" not in text


def test_programs_get_the_same_as_an_object() -> None:
    told = json.loads(json.dumps(as_object(Ready())))
    assert told["api"][0] == "http://127.0.0.1:9337/v1"
    assert told["models"][0]["decode_tps"] == 125.4
    assert told["addresses"] == ["/ip4/127.0.0.1/tcp/9338/p2p/12D3KooWtest"]
