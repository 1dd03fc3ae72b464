"""What a prompt is to a model, in llama.cpp's shapes, and over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.render import Heading
from meshnode.api.tokens import TokensRenderer
from meshnode.config import ApiSettings
from meshnode.domain import Kind, ModelId
from meshnode.errors import ContextLengthExceeded
from meshnode.events import Counted, Event, Finished, Started, Usage
from meshnode.gateway.keys import hash_of, new_key, parse_keys
from tests.kit.api import CARD, CHAT, Scripted, Step, running_api

COUNTED = Counted(3, (1, 97, 195), "<s>aé", (b"<s>", b"a", b"\xc3"))
STEPS: list[Step] = [Started(3), COUNTED, Finished(Usage(prompt_tokens=3))]


def rendered(show: str, *events: Event) -> dict[str, Any]:
    """The answer to a request with this echo."""
    renderer = TokensRenderer(Heading("tok-1", 7, ModelId("m"), "fp"), include_usage=True, echo={"show": show})
    for event in events:
        renderer.collect(event)
    assert renderer.chunks(events) == []
    return renderer.whole()


@pytest.mark.parametrize(
    ("show", "body"),
    [
        ("tokens", {"tokens": [1, 97, 195]}),
        (
            "pieces",
            {"tokens": [{"id": 1, "piece": "<s>"}, {"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}]},
        ),
        ("content", {"content": "<s>aé"}),
        ("prompt", {"prompt": "<s>aé"}),
    ],
)
def test_each_shape(show: str, body: object) -> None:
    assert rendered(show, Started(3), COUNTED, Finished(Usage(prompt_tokens=3))) == body


BODIES = {
    "tokenize": ({"content": "aé", "add_special": True}, {"tokens": [1, 97, 195]}),
    "detokenize": ({"tokens": [1, 97, 195]}, {"content": "<s>aé"}),
    "apply-template": (CHAT, {"prompt": "<s>aé"}),
}


@pytest.mark.parametrize("path", BODIES)
async def test_at_the_root_below_v1_and_with_the_model_in_the_path(path: str) -> None:
    body, answer = BODIES[path]
    async with running_api(Scripted(STEPS)) as api, api.client() as client:
        for place in (f"/{path}", f"/v1/{path}", f"/v1/models/{CARD.id}/{path}"):
            response = await client.post(place, json=body)
            assert (response.status_code, response.json()) == (200, answer)
    assert {request.kind for request in api.scripted.requests} == {Kind.COUNT}
    assert [request.model for request in api.scripted.requests] == ["", "", CARD.id]


@pytest.mark.parametrize("path", BODIES)
async def test_they_ask_for_the_same_keys_as_what_generates(path: str) -> None:
    key = new_key(bytes(32))
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with (
        running_api(Scripted(STEPS), settings=settings, keys=parse_keys(hash_of(key))) as api,
        api.client() as client,
    ):
        refused = await client.post(f"/{path}", json=BODIES[path][0])
        taken = await client.post(f"/{path}", json=BODIES[path][0], headers={"authorization": f"Bearer {key}"})
    assert (refused.status_code, taken.status_code) == (401, 200)


async def test_what_the_engine_refuses_is_an_error_in_openais_shape() -> None:
    refusal = ContextLengthExceeded("the prompt has at least 9 tokens.", param="prompt")
    async with running_api(Scripted([], refusal=refusal)) as api, api.client() as client:
        response = await client.post("/tokenize", json={"content": "x"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
