"""What an answer cost, as its caller sees it in each way of answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from meshnode.api.answer_headers import account, settled, trailer
from meshnode.events import Charge, Finished, TextDelta, Usage
from tests.kit.api import CHAT, Scripted, Step, running_api, spoken, sse_data

FREE = Finished(Usage(5, 2))
PAID = Finished(Usage(5, 2), charge=Charge("rcpt_1", 2125))
BODIES: dict[str, Mapping[str, Any]] = {"/v1/chat/completions": CHAT, "/v1/completions": {"prompt": "hi"}}


def paid(*texts: str) -> Sequence[Step]:
    """An answer that cost something."""
    *steps, last = spoken(*texts)
    assert isinstance(last, Finished)
    return [*steps, msgspec.structs.replace(last, charge=PAID.charge)]


def test_an_answer_of_a_peer_has_a_cost_and_a_receipt() -> None:
    assert settled(PAID) == {
        "x-mesh-cost": "2125", "x-mesh-cost-upstream": "2125", "x-mesh-margin": "0", "x-mesh-receipt": "rcpt_1",
    }  # fmt: skip
    assert account(PAID) == {"mesh": {"receipt": "rcpt_1", "cost": 2125}}
    assert trailer(PAID) == b": x-mesh-receipt=rcpt_1 x-mesh-cost=2125\n\n"


def test_an_answer_of_this_node_is_free() -> None:
    assert settled(FREE) == {"x-mesh-cost": "0", "x-mesh-cost-upstream": "0", "x-mesh-margin": "0"}
    assert (account(FREE), trailer(FREE), trailer(TextDelta("x"))) == ({}, b"", b"")


@pytest.mark.parametrize("path", BODIES)
async def test_one_shot_answers_say_it_in_headers(path: str) -> None:
    async with running_api(Scripted(paid("Hello"))) as api, api.client() as client:
        answer = await client.post(path, json=dict(BODIES[path]))
    assert (answer.headers["x-mesh-cost"], answer.headers["x-mesh-receipt"]) == ("2125", "rcpt_1")


@pytest.mark.parametrize("path", BODIES)
async def test_streams_say_it_in_the_last_chunk_and_in_a_comment(path: str) -> None:
    body = {**BODIES[path], "stream": True, "stream_options": {"include_usage": True}}
    async with running_api(Scripted(paid("Hello"))) as api, api.client() as client:
        text = (await client.post(path, json=body)).text
        plain = (await client.post(path, json=body | {"stream_options": {}})).text
    *_, last, done = sse_data(text)
    assert msgspec.json.decode(last)["mesh"] == {"receipt": "rcpt_1", "cost": 2125}
    assert done == "[DONE]"
    for each in (text, plain):
        assert each.endswith(": x-mesh-receipt=rcpt_1 x-mesh-cost=2125\n\ndata: [DONE]\n\n")
    assert '"mesh"' not in plain
