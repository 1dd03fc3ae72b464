"""The owner keeps templates, and requests are made from them."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from meshnode.domain import Message, Role, TextPart
from tests.kit.api import ADMIN_TOKEN, CHAT, running_api

TOKEN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
GREET = {"messages": [{"role": "system", "content": "Be {{mood}}."}, {"role": "user", "content": "Greet {{who}}."}]}


async def post(http: httpx2.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    answer = await http.post(path, json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_kept_listed_shown_and_forgotten() -> None:
    async with running_api() as api, api.client() as http:
        status, made = await post(http, "/api/templates/greet", GREET, **TOKEN)
        assert (status, made["version"], made["variables"]) == (200, 1, ["mood", "who"])
        await post(http, "/api/templates/greet", {"messages": [{"role": "user", "content": "Hi"}]}, **TOKEN)
        listed = (await http.get("/api/templates", headers=TOKEN)).json()["templates"]
        assert [(one["id"], one["version"]) for one in listed] == [("greet", 2)]
        shown = (await http.get("/api/templates/greet?version=1", headers=TOKEN)).json()
        assert shown["messages"] == GREET["messages"]
        assert (await http.delete("/api/templates/greet", headers=TOKEN)).json()["versions"] == 2
        assert (await http.get("/api/templates/greet", headers=TOKEN)).status_code == 404


async def test_a_chat_is_made_from_one() -> None:
    async with running_api() as api, api.client() as http:
        await post(http, "/api/templates/greet", GREET, **TOKEN)
        asked = {"template": "greet@1", "variables": {"mood": "kind", "who": "Ann"}}
        assert (await post(http, "/v1/chat/completions", asked))[0] == 200
        texts = [(Role.SYSTEM, "Be kind."), (Role.USER, "Greet Ann.")]
        expected = tuple(Message(role=role, parts=(TextPart(text),)) for role, text in texts)
        assert api.scripted.requests[-1].messages == expected
        assert (await post(http, "/v1/chat/completions", CHAT | asked))[0] == 200
        assert api.scripted.requests[-1].messages[:2] == expected
        assert len(api.scripted.requests[-1].messages) == 3


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"template": "greet", "variables": {"mood": "kind"}}, 400, "variables.who"),
        ({"template": "greet", "variables": {"mood": 1, "who": "Ann"}}, 400, "variables"),
        ({"template": "greet@2"}, 404, "template"),
        ({"template": "no/name"}, 400, "template"),
        ({}, 400, "messages"),
    ],
)
async def test_what_does_not_fit_is_named(body: dict[str, Any], status: int, param: str) -> None:
    async with running_api() as api, api.client() as http:
        await post(http, "/api/templates/greet", GREET, **TOKEN)
        found, answer = await post(http, "/v1/chat/completions", body)
        assert (found, answer["error"]["param"]) == (status, param)
        assert not api.scripted.requests


async def test_only_the_owner_keeps_them_and_only_sound_ones() -> None:
    async with running_api() as api, api.client() as http:
        assert (await post(http, "/api/templates/greet", GREET))[0] == 401
        for path, body in (
            ("/api/templates/-x", GREET),
            ("/api/templates/x", {"messages": []}),
            ("/api/templates/x", {"messages": [{"role": "tool", "content": "x"}]}),
            ("/api/templates/x", {"messages": [{"role": "user", "content": ["x"]}]}),
        ):
            assert (await post(http, path, body, **TOKEN))[0] == 400, body
        assert (await http.get("/api/templates/x?version=-1", headers=TOKEN)).status_code == 400
