"""Real answers against their description: nothing undescribed comes, nothing described is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.errors import ModelNotFound
from meshnode.events import (
    Counted,
    EmbeddingResult,
    Finished,
    RerankResult,
    Started,
    Usage,
)
from tests.kit.api import ADMIN_TOKEN, CHAT, Scripted, Step, running_api, spoken, sse_data
from tests.kit.described import TALK, check
from tests.kit.fakemesh import RECEIPT, FakeMesh


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("usage", [True, False])
async def test_texts_and_their_streams(path: str, usage: bool) -> None:
    body = CHAT if "chat" in path else {"prompt": "hi"}
    async with running_api(Scripted(TALK)) as api, api.client() as client:
        check(path, "post", (await client.post(path, json=body)).json())
        asked = body | {"stream": True, "stream_options": {"include_usage": usage}}
        events = list(sse_data((await client.post(path, json=asked)).text))
    assert events.pop() == "[DONE]"
    for event in events:
        check(path, "post", json.loads(event), media="text/event-stream")


async def test_vectors() -> None:
    steps: list[Step] = [Started(1), EmbeddingResult(0, b"\0\0\x80?"), Finished(Usage(prompt_tokens=1))]
    async with running_api(Scripted(steps)) as api, api.client() as client:
        for form in ("float", "base64"):
            answer = await client.post("/v1/embeddings", json={"input": "a", "encoding_format": form})
            check("/v1/embeddings", "post", answer.json())


async def test_prompts() -> None:
    counted = Counted(2, token_ids=(1, 2), text="hi", pieces=(b"h", b"\xff"))
    async with running_api(Scripted([Started(2), counted, Finished(Usage(2))])) as api, api.client() as client:
        for path, body in (
            ("/tokenize", {"content": "hi"}),
            ("/v1/tokenize", CHAT | {"with_pieces": True}),
            ("/detokenize", {"tokens": [1, 2]}),
            ("/apply-template", CHAT),
        ):
            check(path, "post", (await client.post(path, json=body)).json())


async def test_comparing() -> None:
    body = CHAT | {"models": ["tiny:q4_1", "far-8b:q4_k_m"]}
    async with running_api(Scripted(TALK)) as api, api.client() as client:
        check("/v1/chat/compare", "post", (await client.post("/v1/chat/compare", json=body)).json())
        events = list(sse_data((await client.post("/v1/chat/compare", json=body | {"stream": True})).text))
    assert events.pop() == "[DONE]"
    for event in events:
        check("/v1/chat/compare", "post", json.loads(event), media="text/event-stream")
    failing = Scripted([ModelNotFound("no model x.")])
    async with running_api(failing) as api, api.client() as client:
        check("/v1/chat/compare", "post", (await client.post("/v1/chat/compare", json=body)).json())


async def test_ranks() -> None:
    steps: list[Step] = [Started(1), RerankResult(0, 0.5), RerankResult(1, 0.7), Finished(Usage(prompt_tokens=1))]
    body = {"query": "q", "documents": ["a", {"text": "b"}], "return_documents": True}
    async with running_api(Scripted(steps)) as api, api.client() as client:
        for path in ("/v1/rerank", "/rerank", "/reranking"):
            check(path, "post", (await client.post(path, json=body)).json())


async def test_what_a_mesh_is_told_of() -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    async with running_api(mesh=FakeMesh(receipts=(RECEIPT,))) as api, api.client() as client:
        answer = await client.get(f"/api/receipts/{RECEIPT.id}", headers=headers)
        check("/api/receipts/{receipt}", "get", answer.json())
        check("/api/explain", "post", (await client.post("/api/explain", json=CHAT, headers=headers)).json())


async def test_stored_prompts() -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    said = {"messages": [{"role": "user", "content": "Hello {{name}}."}]}
    async with running_api() as api, api.client() as client:
        for method, at, body in (
            ("POST", "/greet", said),
            ("GET", "", None),
            ("GET", "/greet", None),
            ("DELETE", "/greet", None),
        ):
            answer = await client.request(method, f"/api/templates{at}", json=body, headers=headers)
            check("/api/templates" + ("/{name}" if at else ""), method.lower(), answer.json())


@pytest.mark.parametrize(
    ("method", "path", "at", "body"),
    [
        ("get", "/v1/models", "", None),
        ("get", "/v1/models/{name}", "/v1/models/tiny:q4_1", None),
        ("get", "/health", "", None),
        ("get", "/api/status", "", None),
        ("get", "/api/catalog", "", None),
        ("get", "/api/models", "", None),
        ("post", "/api/models/scan", "", {}),
        ("post", "/api/models/add", "", {"path": "/x.gguf"}),
        ("post", "/api/models/{name}/load", "/api/models/tiny:q4_1/load", {}),
        ("get", "/api/models/{name}/fit", "/api/models/tiny:q4_1/fit", None),
        ("post", "/api/models/{name}/unload", "/api/models/tiny:q4_1/unload", {}),
        ("delete", "/api/models/{name}", "/api/models/tiny:q4_1", None),
        ("get", "/api/peers", "", None),
        ("get", "/api/history", "", None),
        ("delete", "/api/history", "", None),
        ("get", "/api/credits", "", None),
        ("post", "/api/mesh/leave", "", {}),
        ("get", "/api/mesh/served", "", None),
        ("post", "/api/stop", "", {}),
        ("get", "/openapi.json", "", None),
    ],
)
async def test_what_the_node_tells(method: str, path: str, at: str, body: dict[str, Any] | None) -> None:
    async with running_api() as api, api.client() as client:
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = await client.request(method.upper(), at or path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    check(path, method, answer.json())


async def test_refusals() -> None:
    refusing = Scripted(spoken("a"), refusal=ModelNotFound("no model x.", param="model"))
    async with running_api(refusing) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
        check("/v1/chat/completions", "post", answer.json(), status=404)
        answer = await client.post("/v1/chat/completions", json={})
        check("/v1/chat/completions", "post", answer.json(), status=400)
