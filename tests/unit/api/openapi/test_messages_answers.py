"""Real messages against their description."""

from __future__ import annotations

import json

from tests.kit.api import CHAT, Scripted, running_api, sse_data
from tests.kit.described import TALK, check


async def test_messages_and_their_streams() -> None:
    tools = [{"name": "f", "input_schema": {}}, {"type": "bash_1"}]
    path, body = "/v1/messages", CHAT | {"max_tokens": 9, "tools": tools}
    async with running_api(Scripted(TALK)) as api, api.client() as client:
        check(path, "post", (await client.post(path, json=body)).json())
        events = list(sse_data((await client.post(path, json=body | {"stream": True})).text))
        check(path, "post", (await client.post(path, json={})).json(), status=400)
        counted = await client.post("/v1/messages/count_tokens", json=CHAT)
        check("/v1/messages/count_tokens", "post", counted.json())
        there = {"anthropic-version": "2023-06-01"}
        check("/v1/models", "get", (await client.get("/v1/models", headers=there)).json())
        check("/v1/models/{name}", "get", (await client.get("/v1/models/tiny:q4_1", headers=there)).json())
        check("/v1/models/{name}", "get", (await client.get("/v1/models/no", headers=there)).json(), status=404)
        check("/v1/models/{name}", "get", (await client.get("/v1/models/no")).json(), status=404)
    assert len(events) > 8
    for event in events:
        check(path, "post", json.loads(event), media="text/event-stream")
