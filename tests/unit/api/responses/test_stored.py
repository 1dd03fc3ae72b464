"""What is kept of a response."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseItem
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from meshnode.api.responses.stored import Paging, input_items, page, paging, response_of
from meshnode.api.responses.thought import sealed
from meshnode.domain import FinishReason
from meshnode.errors import InvalidField, WorkerDied
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


def test_an_empty_list_is_one_too() -> None:
    empty = ResponseItemList.model_validate(page([], Paging()), strict=True)
    assert (empty.data, empty.has_more) == ([], False)


@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(["asc", "desc"]))
def test_pages_make_up_the_list(count: int, limit: int, order: Any) -> None:
    items = [{"id": f"i{number}"} for number in range(count)]
    seen: list[str] = []
    while True:
        part = page(items, Paging(seen[-1] if seen else None, limit, order))
        seen += [item["id"] for item in part["data"]]
        if not part["has_more"]:
            break
        assert len(part["data"]) == limit
        assert part["last_id"] == seen[-1]
    wanted = [item["id"] for item in items]
    assert seen == (wanted if order == "asc" else wanted[::-1])


def test_there_is_nothing_behind_what_is_not_there() -> None:
    with pytest.raises(InvalidField, match="after"):
        page([{"id": "a"}], Paging("b"))


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}])
def test_a_wrong_page_is_named(query: dict[str, str]) -> None:
    with pytest.raises(InvalidField) as caught:
        paging(query)
    assert caught.value.param == next(iter(query))


def test_a_page_as_it_is_asked_for() -> None:
    assert paging({}) == Paging(None, 20, "desc")
    assert paging({"after": "a", "limit": "3", "order": "asc"}) == Paging("a", 3, "asc")
