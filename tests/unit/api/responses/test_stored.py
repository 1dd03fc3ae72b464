"""What is kept of a response."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from meshnode.api.responses.stored import input_items, response_of
from meshnode.api.responses.thought import sealed
from meshnode.domain import FinishReason
from meshnode.errors import WorkerDied
from meshnode.events import ChoiceFinished, Finished, ReasoningDelta, Started, Usage, failure
from meshnode.gateway.job import JobStatus
from tests.kit.responses import SAID, asked, kept

ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be kind."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}], "id": "msg_mine"},
    {"role": "assistant", "content": "hello"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "7"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "7"},
]


@pytest.mark.parametrize(
    ("events", "status", "expected"),
    [
        ((), JobStatus.QUEUED, "queued"),
        ((), JobStatus.IN_PROGRESS, "in_progress"),
        (SAID[:2], JobStatus.IN_PROGRESS, "in_progress"),
        (SAID, JobStatus.COMPLETED, "completed"),
        (SAID[:2], JobStatus.CANCELLED, "cancelled"),
        ((), JobStatus.CANCELLED, "cancelled"),
        ((*SAID[:2], failure(WorkerDied("it died."))), JobStatus.FAILED, "failed"),
        ((*SAID[:2], ChoiceFinished(FinishReason.LENGTH), Finished(Usage())), JobStatus.COMPLETED, "incomplete"),
    ],
)
def test_a_response_stands_as_its_job_does(events: Any, status: JobStatus, expected: str) -> None:
    job = kept(asked(background=True), events=events, status=status)
    response = Response.model_validate(response_of(job), strict=True)
    assert (response.id, response.status, response.background) == ("resp_0a", expected, True)
    assert (response.error is not None) is (expected == "failed")
    assert response.completed_at == (1_700_000_009 if expected == "completed" else None)


def test_a_thought_is_sealed_for_whoever_asks_for_that_later() -> None:
    job = kept(events=(Started(5), ReasoningDelta("hm"), *SAID[1:]))
    assert "encrypted_content" not in response_of(job)["output"][0]
    assert response_of(job, encrypted=True)["output"][0]["encrypted_content"] == sealed("hm")


def test_every_kind_of_input_item_is_listed_as_the_sdk_has_it() -> None:
    found = input_items(kept(asked({"input": ITEMS})))
    for item in found:
        TypeAdapter[object](ResponseItem).validate_python(item, strict=True)
    assert [item["type"] for item in found] == [item.get("type", "message") for item in ITEMS]
    assert found[1]["id"] == "msg_mine"
    assert found[2]["content"][0]["type"] == "output_text"
    assert len({item["id"] for item in found}) == len(ITEMS)


def test_a_string_is_a_message() -> None:
    (item,) = input_items(kept())
    assert (item["id"], item["role"], item["content"]) == (
        "msg_0a_in0",
        "user",
        [{"type": "input_text", "text": "hi"}],
    )
