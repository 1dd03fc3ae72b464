"""Choosing who answers, what it may cost and what it did, as programs ask for it, on two real nodes.

A serves SmolLM2; B joined A and has no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.kit.meshes import HELLO, apart, chat, listed, sdk, until
from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.slow, pytest.mark.model]

MODEL = "smollm2-135m-instruct:q4_1"
LEAST_UC = 2000
"""What any request to a peer costs."""


class Pair(NamedTuple):
    """The two."""

    a: Node
    b: Node


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, flags = tmp_path_factory.mktemp("routing"), apart()
    with ExitStack() as stack:
        a = stack.enter_context(running_node(folder / "a", *flags, "--open", "--model", str(smollm2_path())))
        b = stack.enter_context(running_node(folder / "b", *flags, "--client-only", "--join", a.address))
        until(lambda: MODEL in listed(b))
        yield Pair(a, b)


def as_owner(node: Node, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Response:
    """A call with the admin token."""
    token = (node.home / "admin.token").read_text().strip()
    return httpx2.request(
        method, f"{node.api}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=30
    )


@pytest.mark.parametrize("model", [None, "auto", "fast", "cheapest", "best:tools", "fast:chat"])
def test_a_mode_finds_the_model_near_and_far(pair: Pair, model: str | None) -> None:
    near, far = chat(pair.a, model=model), chat(pair.b, model=model)
    for answer, kind in ((near, "local"), (far, "peer")):
        assert answer.status_code == 200
        assert answer.headers["x-mesh-model"] == answer.json()["model"] == MODEL
        assert answer.headers["x-mesh-route"].startswith(f"{kind}; attempts=1; reason={model or 'auto'}: ")
    assert near.json()["choices"] == far.json()["choices"]


def test_a_capability_that_nobody_has_is_refused_by_name(pair: Pair) -> None:
    for node in pair:
        answer = chat(node, model="fast:vision")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "capability_unavailable")
        assert "image" in answer.json()["error"]["message"]


def test_fallback_models_through_the_official_client(pair: Pair) -> None:
    with sdk(pair.b) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="no-such-model",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=4,
            extra_body={"fallback_models": ["neither-this", MODEL]},
        )
        assert raw.parse().model == MODEL
        assert "instead of no-such-model (model_not_found), neither-this (model_not_found)" in str(
            raw.headers["x-mesh-route"]
        )
        both = chat(pair.b, models=[MODEL], fallback_models=[MODEL])
        assert (both.status_code, both.json()["error"]["param"]) == (400, "fallback_models")
    lost = chat(pair.b, model="x", models=["y"])
    assert lost.status_code == 404
    assert "Tried in vain: x (model_not_found), y (model_not_found)" in lost.json()["error"]["message"]


def test_wishes_of_providers_are_heeded_or_refused_by_name(pair: Pair) -> None:
    peer = pair.a.peer
    kept: list[dict[str, Any]] = [
        {"only": [peer[:16]]},
        {"order": [peer], "allow_fallbacks": False},
        {"quantizations": ["int4"]},
    ]
    for wish in kept:
        assert chat(pair.b, provider=wish).headers["x-mesh-node"] == peer
    ruling_out: list[dict[str, Any]] = [
        {"ignore": [peer]},
        {"only": ["local"]},
        {"data_collection": "deny"},
        {"max_price": {"completion": 1}},
    ]
    for wish in ruling_out:
        refused = chat(pair.b, provider=wish)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "provider"), wish
    assert chat(pair.a, provider={"only": ["local"], "max_price": {"completion": 0}}).status_code == 200


@pytest.mark.parametrize("privacy", ["protected", "private-gateway", "confidential"])
def test_a_private_request_stays_or_is_refused(pair: Pair, privacy: str) -> None:
    assert chat(pair.a, privacy=privacy).headers["x-mesh-route"].startswith("local")
    refused = chat(pair.b, privacy=privacy, model=MODEL)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "privacy")


def test_an_answer_says_what_it_cost_and_the_owner_finds_its_receipt(pair: Pair) -> None:
    here = chat(pair.a)
    assert (here.headers["x-mesh-cost"], "x-mesh-receipt" in here.headers) == ("0", False)
    far = chat(pair.b)
    cost, receipt = int(far.headers["x-mesh-cost"]), far.headers["x-mesh-receipt"]
    assert cost >= LEAST_UC
    assert (far.headers["x-mesh-cost-upstream"], far.headers["x-mesh-margin"]) == (str(cost), "0")
    until(lambda: as_owner(pair.b, "GET", f"/api/receipts/{receipt}").json()["state"] == "confirmed")
    shown = as_owner(pair.b, "GET", f"/api/receipts/{receipt}").json()
    assert (shown["cost_uc"], shown["paid_uc"], shown["peer"]) == (cost, cost, pair.a.peer)
    assert shown["prompt_tokens"] + shown["cached_tokens"] == far.json()["usage"]["prompt_tokens"]
    assert httpx2.get(f"{pair.b.api}/api/receipts/{receipt}", timeout=10).status_code == 401


def test_a_stream_says_it_in_its_last_chunk(pair: Pair) -> None:
    with sdk(pair.b) as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
        *_, last = stream
    assert last.choices == []
    mesh = (last.model_extra or {})["mesh"]
    assert mesh["cost"] >= LEAST_UC
    assert mesh["receipt"].startswith("rcpt_")


def test_an_answer_ends_before_it_costs_more_than_it_may(pair: Pair) -> None:
    dear = {"model": MODEL, "max_tokens": 1500, "ignore_eos": True, "max_cost": 10**5}
    too_dear = chat(pair.b, **dear)
    assert (too_dear.status_code, too_dear.json()["error"]["param"]) == (422, "max_cost")
    answer = chat(pair.b, **{**dear, "max_tokens": None, "max_cost": 40_000})
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert 30_000 < int(answer.headers["x-mesh-cost"]) <= 40_000


def test_several_models_side_by_side(pair: Pair) -> None:
    body = {**HELLO, "models": [MODEL, "no-such-model"]}
    answer = httpx2.post(f"{pair.b.api}/v1/chat/compare", json=body, timeout=60).json()
    well, lost = answer["data"]
    assert well["response"]["choices"][0]["message"]["content"]
    assert (well["node"], well["route"]) == (pair.a.peer, "peer")
    assert well["cost"] >= LEAST_UC
    assert lost["error"]["code"] == "model_not_found"


def test_the_catalogue_has_the_speed_of_real_answers(pair: Pair) -> None:
    chat(pair.b, max_tokens=24, ignore_eos=True)
    shown = httpx2.get(f"{pair.b.api}/api/catalog", timeout=10)
    [model] = shown.json()["models"]
    assert (model["id"], model["here"], model["providers"]) == (MODEL, False, 1)
    assert model["decode_tps_p50"] > 0
    assert model["first_token_ms_p50"] > 0
    assert shown.json()["nodes"] == {"live": 2, "serving": 1}
    assert pair.a.peer not in shown.text


def test_a_plan_is_explained_without_asking_anybody(pair: Pair) -> None:
    before = as_owner(pair.b, "GET", "/api/credits").json()["spent"]
    shown = as_owner(pair.b, "POST", "/api/explain", {**HELLO, "model": "fast", "models": ["nowhere"]}).json()
    first, second = shown["rungs"]
    assert first["name"] == f"fast = {MODEL}"
    assert [candidate["node"] for candidate in first["candidates"]] == [pair.a.peer]
    assert second["code"] == "model_not_found"
    refused = as_owner(pair.b, "POST", "/api/explain", {**HELLO, "model": MODEL, "max_cost": 5}).json()["rungs"][0]
    assert [rejection["gate"] for rejection in refused["rejections"]] == ["price"]
    assert as_owner(pair.b, "GET", "/api/credits").json()["spent"] == before
