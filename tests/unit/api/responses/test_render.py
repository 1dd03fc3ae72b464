"""Events of an answer as a stream and as an object: every ending, at every chunking."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from meshnode.api.render import Heading, coalesce
from meshnode.api.responses.parse import parse_response
from meshnode.api.responses.render import Later, ResponseRenderer
from meshnode.api.responses.thought import unsealed
from meshnode.api.schema import Asker
from meshnode.domain import OWNER, FinishReason, ModelId, RequestId
from meshnode.errors import Cancelled, ContextLengthExceeded, Draining, ProtocolViolation, WorkerDied
from meshnode.events import (
    Charge,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    Prefilling,
    Queued,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    failure,
)
from tests.kit.response_events import checked, validated

HEADING = Heading("resp_0a", 1700000000, ModelId("tiny"), "fp_1")
BEGUN: list[Event] = [Queued(1), Started(5), Prefilling(5, 5)]
DONE = Finished(Usage(5, 3, 2, 1), Timings(queue_ms=100, prompt_ms=900, predicted_ms=2000))
LOGPROB = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5), (2, b"\xc3", -1.5)))


def ended(*events: Event, reason: FinishReason = FinishReason.STOP) -> list[Event]:
    return [*BEGUN, *events, ChoiceFinished(reason), DONE]


CALLS: list[Event] = [
    ToolCallStarted(0, "c1", "f"),
    ToolCallDelta(0, '{"a"'),
    ToolCallDelta(0, ": 1}"),
    ToolCallStarted(1, "c2", "files__patch"),
    ToolCallDelta(1, '{"input": "x \\"y\\""}'),
]
ANSWERS: dict[str, list[Event]] = {
    "text": ended(TextDelta("Hello"), TextDelta(" wor"), TextDelta("ld")),
    "nothing": ended(),
    "length": ended(TextDelta("Hel"), reason=FinishReason.LENGTH),
    "cut": ended(TextDelta("Hel"), reason=FinishReason.CONTENT_FILTER),
    "thought cut": ended(ReasoningDelta("hm"), reason=FinishReason.LENGTH),
    "thought then text": ended(ReasoningDelta("h"), ReasoningDelta("m m"), TextDelta("So"), TextDelta(" be it")),
    "calls": ended(ReasoningDelta("hm"), TextDelta("I look."), *CALLS, reason=FinishReason.TOOL_CALLS),
    "call cut": ended(*CALLS[:2], reason=FinishReason.LENGTH),
    "refusal": ended(RefusalDelta("I "), RefusalDelta("won't.")),
    "text then refusal": ended(TextDelta("Well"), RefusalDelta("no"), TextDelta("sorry")),
    "logprobs": ended(TextDelta("a", logprobs=(LOGPROB,)), TextDelta("", logprobs=(LOGPROB,)), TextDelta("b")),
    "error before": [Queued(1), failure(ContextLengthExceeded("too long.", param="input"))],
    "error after": [*BEGUN, TextDelta("Hel"), failure(WorkerDied("it died."))],
    "error in a call": [*BEGUN, *CALLS[:2], failure(WorkerDied("it died."))],
    "cancelled": [*BEGUN, TextDelta("Hel"), failure(Cancelled("the caller left."))],
}


def echo(**fields: Any) -> dict[str, Any]:
    custom = {"type": "custom", "name": "patch"}
    tools = [{"type": "function", "name": "f"}, {"type": "namespace", "name": "files", "tools": [custom]}]
    body = json.dumps({"input": "hi", "tools": tools, **fields}).encode()
    return dict(parse_response(body, Asker(RequestId("r1"), OWNER)).echo)


def told(events: list[Event], sizes: list[int] | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The stream of an answer whose events come in pieces of these sizes."""
    renderer = ResponseRenderer(HEADING, include_usage=False, echo=echo(**fields))
    chunks: list[dict[str, Any]] = []
    rest = list(events)
    for size in [*(sizes or []), len(events)]:
        piece, rest = rest[:size], rest[size:]
        chunks += renderer.chunks(coalesce(piece))
    return chunks


def whole(events: list[Event], **fields: Any) -> dict[str, Any]:
    renderer = ResponseRenderer(HEADING, include_usage=True, echo=echo(**fields))
    for event in events:
        renderer.collect(event)
    return renderer.whole()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 4), max_size=12))
def test_a_stream_is_in_order_and_comes_to_the_one_shot_object(name: str, background: bool, sizes: list[int]) -> None:
    events = told(ANSWERS[name], sizes, background=background)
    final = checked(events, background=background)
    assert final == whole(ANSWERS[name], background=background)
    Response.model_validate(final, strict=True)


@pytest.mark.parametrize(
    ("name", "status", "reason", "items"),
    [
        ("text", "completed", None, ["completed"]),
        ("nothing", "completed", None, ["completed"]),
        ("length", "incomplete", "max_output_tokens", ["incomplete"]),
        ("cut", "incomplete", "content_filter", ["incomplete"]),
        ("calls", "completed", None, ["completed"] * 4),
        ("call cut", "incomplete", "max_output_tokens", ["incomplete"]),
        ("error before", "failed", None, []),
        ("error after", "failed", None, ["incomplete"]),
        ("cancelled", "cancelled", None, ["incomplete"]),
    ],
)
def test_how_an_answer_ends(name: str, status: str, reason: str | None, items: list[str]) -> None:
    response = whole(ANSWERS[name])
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == reason
    assert [item["status"] for item in response["output"]] == items
    assert (response["error"] is not None) is (status in ("failed", "cancelled"))
    assert (response["usage"] is not None) is (status in ("completed", "incomplete"))
    assert response["completed_at"] == (1700000003 if status == "completed" else None)


def test_the_items_of_an_answer_with_calls() -> None:
    thought, message, call, custom = whole(ANSWERS["calls"], include=["reasoning.encrypted_content"])["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert unsealed(thought["encrypted_content"]) == "hm"
    assert message["content"][0]["text"] == "I look."
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "f", '{"a": 1}')
    assert (custom["type"], custom["name"], custom["namespace"]) == ("custom_tool_call", "patch", "files")
    assert custom["input"] == 'x "y"'
    assert [item["id"] for item in (thought, message, call, custom)] == ["rs_0a_0", "msg_0a_1", "fc_0a_2", "ctc_0a_3"]


def test_a_refusal_beside_text_is_a_part_of_its_own() -> None:
    (message,) = whole(ANSWERS["text then refusal"])["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal", "output_text"]


def test_logprobs_come_with_the_delta_and_with_the_part() -> None:
    events = told(ANSWERS["logprobs"], [1] * 8)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [(event["delta"], len(event["logprobs"])) for event in deltas] == [("a", 1), ("", 1), ("b", 0)]
    (part,) = events[-1]["response"]["output"][0]["content"]
    assert part["logprobs"][0]["top_logprobs"][1] == {"token": "\ufffd", "logprob": -1.5, "bytes": [195]}
    assert len(part["logprobs"]) == 2


def test_an_error_closes_what_was_begun() -> None:
    renderer = ResponseRenderer(HEADING, include_usage=False, echo=echo())
    begun = renderer.chunks([Started(5), TextDelta("Hel")])
    final = checked([*begun, *renderer.failed(WorkerDied("it died."))])
    assert final["error"]["type"] == "worker_died"
    assert final["output"][0]["content"][0]["text"] == "Hel"


def test_the_end_of_the_node_ends_the_stream_of_one_in_the_background_and_not_the_response() -> None:
    renderer = ResponseRenderer(HEADING, echo=echo(background=True))
    begun = renderer.chunks([Started(5), TextDelta("Hel")])
    (last,) = renderer.failed(Draining("the node is stopping."))
    validated(last)
    assert (last["type"], last["code"], last["sequence_number"]) == ("error", "draining", len(begun))
    assert renderer.whole()["status"] == "in_progress"


def test_an_error_before_anything_is_still_a_stream() -> None:
    final = checked(ResponseRenderer(HEADING, include_usage=False, echo=echo()).failed(WorkerDied("it died.")))
    assert (final["status"], final["output"]) == ("failed", [])


def test_one_in_the_background_is_queued_until_it_is_begun() -> None:
    renderer = ResponseRenderer(HEADING, echo=echo(background=True))
    assert renderer.whole()["status"] == "queued"
    waits = renderer.chunks([Queued(0)])
    assert [(event["type"], event["response"]["status"]) for event in waits] == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
    ]
    (begun,) = renderer.chunks([Started(5)])
    assert (begun["type"], begun["response"]["status"]) == ("response.in_progress", "in_progress")


def test_a_response_on_its_way_shows_what_there_is() -> None:
    renderer = ResponseRenderer(HEADING, echo=echo(background=True))
    for event in (Started(5), TextDelta("Hel"), *CALLS[3:]):
        renderer.collect(event)
    response = renderer.whole()
    Response.model_validate(response, strict=True)
    assert response["status"] == "in_progress"
    assert [item["status"] for item in response["output"]] == ["completed", "in_progress"]
    last = renderer.failed(Cancelled("it was cancelled."))[-1]
    assert last["response"]["status"] == "cancelled"
    assert [item["status"] for item in renderer.whole()["output"]] == ["completed", "incomplete"]


def test_arguments_of_a_call_that_is_done_are_refused() -> None:
    renderer = ResponseRenderer(HEADING, echo=echo())
    renderer.chunks(CALLS)
    with pytest.raises(ProtocolViolation):
        renderer.chunks([ToolCallDelta(0, "}")])
    validated(renderer.failed(ProtocolViolation("x"))[-1])


def test_other_choices_and_other_events_say_nothing() -> None:
    events: list[Event] = [Started(5), TextDelta("b", choice=1), ChoiceFinished(FinishReason.STOP, 1)]
    assert whole(events)["output"] == []


def test_whoever_takes_a_stream_up_again_gets_what_is_new() -> None:
    count = len(told(ANSWERS["error after"]))
    for after in range(-1, count):
        later = Later(ResponseRenderer(HEADING, echo=echo()), after)
        told_later = [*later.chunks(ANSWERS["error after"][:-1]), *later.failed(WorkerDied("it died."))]
        assert [event["sequence_number"] for event in told_later] == list(range(after + 1, count))
        assert later.whole()["status"] == "failed"


def test_what_an_answer_of_a_peer_cost_stands_beside_its_usage() -> None:
    paid = [*ANSWERS["text"][:-1], Finished(Usage(5, 3), charge=Charge("r1", 12))]
    response = whole(paid)
    Response.model_validate(response, strict=True)
    assert response["mesh"] == {"receipt": "r1", "cost": 12}


def test_every_field_of_the_object_is_always_there() -> None:
    required = set(Response.model_fields) - {
        "access_programs", "conversation", "image", "input_transformations", "moderation", "prompt_cache_diagnostics",
        "prompt_cache_options", "tool_usage",
    }  # fmt: skip
    assert required <= whole(ANSWERS["error before"]).keys()
    assert isinstance(ANSWERS["error before"][-1], Failed)
