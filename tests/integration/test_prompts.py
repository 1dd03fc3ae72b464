"""Prompts over the real dispatcher, pool and scheduler, with the deterministic backend: many, told, repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from meshnode.engine.pool import PoolLimits, open_pool
from meshnode.mesh.local import LocalDispatcher
from meshnode.mesh.several import SeveralDispatcher
from meshnode.observe import Metrics
from tests.kit.api import CARD, MemoryLibrary, running_api, sse_data
from tests.kit.engines import Stable, constant_entropy

SHORT = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}


@asynccontextmanager
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an API as the node builds it, but for the model."""
    library, metrics = MemoryLibrary(CARD), Metrics()
    engines = Stable(load_s=0.01, step_s=0.0005)
    async with open_pool(engines.open, metrics=metrics, entropy=constant_entropy, limits=PoolLimits()) as pool:
        dispatcher = SeveralDispatcher(LocalDispatcher(library, pool, metrics, node="12D3KooWNode"))
        async with (
            running_api(dispatcher, library=library, pool=pool, metrics=metrics) as api,
            api.client() as found,
        ):
            yield found


async def test_several_prompts_are_answered_as_each_alone_streamed_or_not() -> None:
    prompts: list[object] = ["one", [116, 119, 111], "three", *(f"number {n}" for n in range(20))]
    async with client() as http:
        alone = [
            (await http.post("/v1/completions", json={"prompt": prompt, **SHORT})).json()["choices"][0]["text"]
            for prompt in prompts
        ]
        whole = (await http.post("/v1/completions", json={"prompt": prompts, "n": 2, **SHORT})).json()
        streamed = await http.post("/v1/completions", json={"prompt": prompts, "n": 2, "stream": True, **SHORT})
    assert [choice["index"] for choice in whole["choices"]] == list(range(2 * len(prompts)))
    assert [choice["text"] for choice in whole["choices"]] == [text for text in alone for _ in range(2)]
    assert whole["usage"]["completion_tokens"] == 6 * 2 * len(prompts)
    texts = dict.fromkeys(range(2 * len(prompts)), "")
    for data in sse_data(streamed.text):
        for choice in json.loads(data)["choices"] if data != "[DONE]" else ():
            texts[choice["index"]] += choice["text"]
    assert list(texts.values()) == [choice["text"] for choice in whole["choices"]]


async def test_a_prompt_that_fails_among_several_is_an_error_with_its_own_status() -> None:
    async with client() as http:
        answer = await http.post("/v1/completions", json={"prompt": ["fine", "x" * 20_000], **SHORT})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


async def test_the_prompt_is_repeated_and_the_best_answers_chosen() -> None:
    body = {"prompt": [104, 105], "echo": True, "best_of": 4, "n": 2, "max_tokens": 6, "seed": 5, "temperature": 1.5}
    async with client() as http:
        told = (await http.post("/v1/completions", json=body)).json()
        every = {**body, "n": 4, "echo": False, "logprobs": 0}
        made = (await http.post("/v1/completions", json=every)).json()["choices"]
    means = {choice["text"]: sum(lps := choice["logprobs"]["token_logprobs"]) / len(lps) for choice in made}
    best = sorted(means, key=means.__getitem__, reverse=True)[:2]
    assert [choice["text"] for choice in told["choices"]] == [f"hi{text}" for text in best]
    assert [choice["logprobs"] for choice in told["choices"]] == [None, None]


async def test_what_the_model_cannot_fill_in_is_refused_by_name() -> None:
    async with client() as http:
        answer = await http.post("/v1/completions", json={"prompt": "a", "suffix": "b"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "suffix")


async def test_what_is_cut_into_tokens_comes_back_and_templates_are_applied() -> None:
    chat = {"messages": [{"role": "user", "content": "höre"}]}
    async with client() as http:
        tokens = (await http.post("/tokenize", json={"content": "höre"})).json()["tokens"]
        pieces = (await http.post("/tokenize", json={"content": "ö", "with_pieces": True})).json()["tokens"]
        text = (await http.post("/detokenize", json={"tokens": tokens})).json()
        prompt = (await http.post("/apply-template", json=chat)).json()["prompt"]
        rendered = (await http.post("/tokenize", json=chat)).json()["tokens"]
    assert tokens == list("höre".encode())
    assert pieces == [{"id": 0xC3, "piece": [0xC3]}, {"id": 0xB6, "piece": [0xB6]}]
    assert text == {"content": "höre"}
    assert prompt == "<|im_start|>user\nhöre<|im_end|>\n<|im_start|>assistant\n"
    assert rendered[1:] == list(prompt.encode())


async def test_a_conversation_that_was_shortened_is_answered_and_says_so_streamed_or_not() -> None:
    turns = [{"role": ("user", "assistant")[at % 2], "content": "x" * 1000} for at in range(13)]
    body = {"messages": turns, "transforms": ["middle-out"], "max_tokens": 4}
    async with client() as http:
        refused = await http.post("/v1/chat/completions", json={**body, "transforms": []})
        told = [await http.post("/v1/chat/completions", json={**body, "stream": stream}) for stream in (False, True)]
        short = await http.post("/v1/chat/completions", json={**body, "messages": turns[:1]})
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert [answer.status_code for answer in told] == [200, 200]
    assert {answer.headers["x-mesh-transform"] for answer in told} == {"middle-out; dropped=6"}
    assert "x-mesh-transform" not in short.headers
