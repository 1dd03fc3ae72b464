"""Real responses against their description."""

from __future__ import annotations

import json

from tests.kit.api import Scripted, running_api, sse_data
from tests.kit.described import TALK, check


async def test_responses_and_their_streams() -> None:
    path, body = "/v1/responses", {"input": "hi", "tools": [{"type": "function", "name": "f"}], "store": False}
    async with running_api(Scripted(TALK)) as api, api.client() as client:
        check(path, "post", (await client.post(path, json=body)).json())
        events = list(sse_data((await client.post(path, json=body | {"stream": True})).text))
    for event in events:
        check(path, "post", json.loads(event), media="text/event-stream")
