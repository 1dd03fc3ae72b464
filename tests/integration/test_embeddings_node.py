"""Embeddings of a real node, by the official ``openai`` package with every answer validated, and by plain HTTP."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import httpx2
import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.integration.test_embeddings_equal import COMPANY, golden
from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinybert import CONTEXT, write_tiny_bert
from tests.kit.tinygguf import write_tiny_gguf

pytestmark = pytest.mark.slow

TEXTS = ["hello world", "the quick brown fox", "hello world"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a generative model."""
    folder = tmp_path_factory.mktemp("tiny")
    with running_node(folder / "home", "--model", str(write_tiny_gguf(folder / "tiny-q8_0.gguf"))) as node:
        yield node


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a model made for embeddings alone."""
    folder = tmp_path_factory.mktemp("bert")
    with running_node(folder / "home", "--model", str(write_tiny_bert(folder / "bert-f32.gguf"))) as node:
        yield node


def sdk(node: Node, *, strict: bool = True) -> OpenAI:
    """A client that refuses any answer which is not of OpenAI's shape.

    Not ``strict`` where the vectors come as base64, which is what the package asks for unless told otherwise: it looks
    at the answer before it has decoded them, and would refuse OpenAI's own.
    """
    return OpenAI(
        base_url=f"{node.api}/v1", api_key="unused", max_retries=0, timeout=60, _strict_response_validation=strict
    )


@pytest.mark.parametrize("which", ["tiny", "bert"])
def test_the_sdk_gets_vectors_in_order_by_either_encoding(which: str, request: pytest.FixtureRequest) -> None:
    node: Node = request.getfixturevalue(which)
    with sdk(node, strict=False) as client:
        compact = client.embeddings.create(model=which, input=TEXTS, user="me")
    with sdk(node) as client:
        plain = client.embeddings.create(model=which, input=TEXTS, encoding_format="float")
    assert [each.index for each in compact.data] == [0, 1, 2]
    vectors = np.array([each.embedding for each in compact.data])
    assert np.allclose(vectors, [each.embedding for each in plain.data], atol=1e-7)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > COMPANY > vectors[0] @ vectors[1]
    assert compact.usage.prompt_tokens == compact.usage.total_tokens > 0
    assert compact.object == "list"
    assert compact.model.startswith(which)


def test_dimensions_cut_and_make_the_length_one_again(tiny: Node) -> None:
    with sdk(tiny, strict=False) as client:
        whole = np.array(client.embeddings.create(model="tiny", input="hello").data[0].embedding)
        cut = np.array(client.embeddings.create(model="tiny", input="hello", dimensions=8).data[0].embedding)
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="tiny", input="hello", dimensions=65)
    assert cut.shape == (8,)
    assert np.allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert caught.value.param == "dimensions"
    assert "65" in caught.value.message
    assert "64" in caught.value.message


def test_token_ids_are_taken_as_they_are(tiny: Node) -> None:
    with sdk(tiny, strict=False) as client:
        one = client.embeddings.create(model="tiny", input=[5, 6, 7])
        several = client.embeddings.create(model="tiny", input=[[5, 6, 7], [7, 6, 5]])
    assert one.usage.prompt_tokens == 3
    assert np.dot(one.data[0].embedding, several.data[0].embedding) > COMPANY
    assert np.dot(several.data[0].embedding, several.data[1].embedding) < COMPANY


def test_too_long_an_input_is_refused_by_its_number_with_both_lengths(bert: Node) -> None:
    with sdk(bert) as client, pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="bert", input=["hello", "hello " * 500])
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "input[1]"
    assert str(CONTEXT) in caught.value.message
    assert "502" in caught.value.message


def test_a_chat_with_a_model_that_only_embeds_is_refused_by_its_name(bert: Node) -> None:
    with sdk(bert) as client, pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="bert", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "capability_unavailable"
    assert "bert" in caught.value.message
    assert "embed" in caught.value.message


def test_two_thousand_inputs_come_back_whole_and_a_single_one_does_not_wait_for_them(tiny: Node) -> None:
    many = [f"number {n} of a long list of inputs" for n in range(2048)]
    done: list[float] = []

    def all_of_them() -> None:
        with sdk(tiny, strict=False) as client:
            assert len(client.embeddings.create(model="tiny", input=many).data) == len(many)
        done.append(monotonic())

    thread = threading.Thread(target=all_of_them)
    with sdk(tiny, strict=False) as client:
        thread.start()
        while client.embeddings.create(model="tiny", input="and one").usage.prompt_tokens and not done:
            last = monotonic()
    thread.join(60)
    assert done
    assert last < done[0]


def test_metrics_and_models_show_it(bert: Node) -> None:
    metrics = httpx2.get(f"{bert.api}/metrics", timeout=10).text
    assert "meshnode_" in metrics
    (model,) = httpx2.get(f"{bert.api}/v1/models", timeout=10).json()["data"]
    assert model["kinds"] == ["embed"]


@pytest.mark.model
def test_smollm2_over_http_gives_what_llama_server_gives(tmp_path: Path) -> None:
    inputs, tokens, _, together = golden("smollm2-135m-instruct-q4_1")
    with running_node(tmp_path / "home", "--model", str(smollm2_path()), "--context", "1024") as node:
        body = {"input": [one if isinstance(one, str) else list(one) for one in inputs], "encoding_format": "base64"}
        answer = httpx2.post(f"{node.api}/v1/embeddings", json=body, timeout=120).raise_for_status().json()
        beside = stream_beside_embeddings(node)
    assert answer["usage"]["prompt_tokens"] == sum(tokens)
    vectors = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in answer["data"]]
    assert min(float(a @ b) for a, b in zip(vectors, together, strict=True)) >= COMPANY
    assert beside > 2


def stream_beside_embeddings(node: Node) -> int:
    """Events of a stream that came while a large request was embedded: it does not stand still for it."""
    body = {"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 60, "ignore_eos": True, "stream": True}
    many = {"input": ["one and two and three and four and five " * 4] * 16, "encoding_format": "base64"}
    spent: list[float] = []

    def embed() -> None:
        spent.append(monotonic())
        httpx2.post(f"{node.api}/v1/embeddings", json=many, timeout=120).raise_for_status()
        spent.append(monotonic())

    with (
        httpx2.Client(base_url=node.api, timeout=120) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        thread = threading.Thread(target=embed)
        thread.start()
        times = [monotonic() for line in lines if line.startswith("data: {")]
        thread.join(120)
    began, ended = spent
    return sum(began < time < ended for time in times)
