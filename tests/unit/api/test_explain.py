"""The plan of a request: for the owner, of any body, nobody asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshnode.api.explain import explained
from meshnode.domain import Kind, ModelId, RequestId
from meshnode.errors import InvalidField, UnknownField
from meshnode.mesh.route import Candidate, Rejection
from meshnode.mesh.view import RungView
from tests.kit.api import ADMIN_TOKEN, CHAT, running_api
from tests.kit.fakemesh import ANN, BOB, FAR, FakeMesh

TOKEN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
RUNG = RungView(
    name="fast = far-8b:q4_k_m",
    model=FAR.id,
    candidates=(Candidate(kind="peer", node=ANN, model=FAR.id, reason="the one peer", expected_ms=812.5, cost_uc=9),),
    rejections=(Rejection(kind="peer", node=BOB, model=FAR.id, gate="price", reason="would cost about 9 µc"),),
    code="",
    error="",
)


async def test_the_owner_sees_who_would_be_asked_and_why_others_would_not() -> None:
    mesh = FakeMesh(planned=(RUNG,))
    async with running_api(mesh=mesh) as api, api.client() as client:
        body = {**CHAT, "model": "fast", "max_cost": 5000}
        shown = (await client.post("/api/explain", json=body, headers=TOKEN)).json()
        assert (await client.post("/api/explain", json=body)).status_code == 401
        wrong = await client.post("/api/explain", json={"model": "fast"}, headers=TOKEN)
    assert shown["model"] == "fast"
    [rung] = shown["rungs"]
    assert (rung["name"], rung["model"], rung["error"]) == ("fast = far-8b:q4_k_m", FAR.id, "")
    assert rung["candidates"][0]["node"] == ANN
    assert rung["candidates"][0]["expected_ms"] == 812.5
    assert rung["rejections"][0]["gate"] == "price"
    assert [request.max_cost_uc for request in mesh.explained] == [5000]
    assert api.scripted.requests == []
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(
    ("body", "kind", "model"),
    [
        ({**CHAT, "model": "auto"}, Kind.GENERATE, "auto"),
        ({"prompt": "hi"}, Kind.GENERATE, ""),
        ({"input": ["a", "b"], "models": ["e"]}, Kind.EMBED, ""),
    ],
)
def test_a_body_is_known_by_what_it_holds(body: dict[str, Any], kind: Kind, model: str) -> None:
    request = explained(msgspec.json.encode(body), RequestId("r"))
    assert (request.kind, request.model) == (kind, ModelId(model))


def test_a_body_is_judged_as_where_it_belongs() -> None:
    with pytest.raises(UnknownField):
        explained(b'{"input": "x", "messages_": []}', RequestId("r"))
    with pytest.raises(InvalidField, match="nothing to plan"):
        explained(b"{}", RequestId("r"))
