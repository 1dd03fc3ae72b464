"""Documents by their scores, and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from meshnode.api.render import Heading
from meshnode.api.rerank import RerankRenderer
from meshnode.domain import Kind, ModelId
from meshnode.errors import CapabilityUnavailable
from meshnode.events import Event, Finished, RerankResult, Started, Usage
from tests.kit.api import CARD, Scripted, Step, running_api

EVENTS: list[Event] = [
    Started(9),
    RerankResult(1, 0.5),
    RerankResult(2, 3.0),
    RerankResult(0, 0.5),
    Finished(Usage(prompt_tokens=9)),
]


def rendered(echo: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request with this echo."""
    renderer = RerankRenderer(Heading("rank-1", 7, ModelId("m"), "fp"), include_usage=True, echo=echo)
    for event in EVENTS:
        renderer.collect(event)
    assert renderer.chunks(EVENTS) == []
    return renderer.whole()


def test_the_best_first_and_equals_in_order() -> None:
    assert rendered({}) == {
        "id": "rank-1",
        "object": "list",
        "model": "m",
        "results": [
            {"index": 2, "relevance_score": 3.0},
            {"index": 0, "relevance_score": 0.5},
            {"index": 1, "relevance_score": 0.5},
        ],
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_no_more_than_wanted_and_with_their_text() -> None:
    results = rendered({"top_n": 2, "documents": ["a", "b", "c"]})["results"]
    assert [result["document"] for result in results] == [{"text": "c"}, {"text": "a"}]
    assert len(rendered({"top_n": 9})["results"]) == 3


@pytest.mark.parametrize(
    "path", ["/v1/rerank", "/v1/reranking", "/rerank", "/reranking", f"/v1/models/{CARD.id}/rerank"]
)
async def test_at_every_path_that_clients_know(path: str) -> None:
    steps: list[Step] = [*EVENTS]
    body = {"query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 1}
    async with running_api(Scripted(steps)) as api, api.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200
    assert answer.json()["results"] == [{"index": 2, "relevance_score": 3.0}]
    (request,) = api.scripted.requests
    assert (request.kind, request.query, request.documents) == (Kind.RERANK, "q", ("a", "b", "c"))


async def test_a_model_that_cannot_is_422_by_name() -> None:
    refusal = CapabilityUnavailable("tiny serves generate here, not rerank.", param="model")
    async with running_api(Scripted([], refusal=refusal)) as api, api.client() as client:
        answer = await client.post("/v1/rerank", json={"query": "q", "documents": ["a"]})
    assert answer.status_code == 422
    assert "not rerank" in answer.json()["error"]["message"]
