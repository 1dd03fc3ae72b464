"""Every kind of event travels and comes back as what it was."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from meshnode.domain import FinishReason
from meshnode.errors import InternalFault, MeshnodeError, NobodyServes, Overloaded
from meshnode.events import (
    ChoiceFinished,
    Counted,
    EmbeddingResult,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    RefusalDelta,
    RerankResult,
    Resumed,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
    decoded_tokens,
    error_of,
    failure,
    kind_of,
)

ONE_OF_EACH: list[Event] = [
    Queued(3, estimate_s=1.5),
    Loading(0.5),
    Prefilling(10, 20),
    Started(20, cached_tokens=4, seed=2**64 - 1),
    TextDelta("é", token_ids=(1, 2), logprobs=(TokenLogprob(token_id=1, token=b"\xc3", logprob=-0.5),)),
    ReasoningDelta("hm"),
    RefusalDelta("no"),
    ToolCallStarted(0, "call_1", "f", 0, (1, 2)),
    ToolCallDelta(0, '{"a"', 0, (3,)),
    EmbeddingResult(0, b"\0" * 8),
    RerankResult(1, 0.5),
    Counted(3, (1, 2, 3), "abc"),
    Heartbeat(),
    Resumed(12, node="peer", reason="died"),
    ChoiceFinished(FinishReason.STOP, stop="\n"),
    Finished(Usage(prompt_tokens=20, completion_tokens=2)),
    Failed("worker_died", "it died.", retry_after_s=1.0),
]


def test_there_is_an_example_of_each_kind() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(Event))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_what_it_was(event: Event) -> None:
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Event)
    assert back == event
    assert type(back) is type(event)


def test_a_failure_says_all_that_the_error_says() -> None:
    error = Overloaded("full.", hint="wait.", param="p", retry_after_s=2.0)
    assert failure(error) == Failed(code="overloaded", message="full.", hint="wait.", param="p", retry_after_s=2.0)


def test_a_failure_is_taken_back_as_the_error_that_it_was() -> None:
    told = Failed(code="overloaded", message="full.", hint="wait.", param="p", retry_after_s=2.0)
    assert type(error_of(told)) is Overloaded
    assert failure(error_of(told)) == told
    assert type(error_of(Failed("martian", "x"))) is InternalFault


def test_a_code_names_the_trees_own_error() -> None:
    class Refined(NobodyServes):
        """A room's own, under the same code."""

    assert issubclass(Refined, MeshnodeError)
    assert kind_of("no_provider") is NobodyServes
    assert kind_of("internal_error") is InternalFault
    assert kind_of("martian") is None


@pytest.mark.parametrize(
    ("event", "tokens"),
    [
        (TextDelta("abc", token_ids=(1, 2, 3)), 3),
        (ReasoningDelta("hm", token_ids=(1, 2)), 2),
        (TextDelta("tagged with nobody's weights"), 1),
        (ToolCallDelta(0, "{"), 1),
        (ToolCallDelta(0, '{"a":', token_ids=(1, 2, 3)), 3),
        (ToolCallStarted(0, "call_1", "f"), 0),
        (ToolCallStarted(0, "call_1", "f", token_ids=(1, 2)), 2),
        (Started(20), 0),
        (Prefilling(10, 20), 0),
        (Finished(Usage(completion_tokens=9)), 0),
    ],
)
def test_an_event_counts_the_tokens_of_the_answer_it_took(event: Event, tokens: int) -> None:
    assert decoded_tokens(event) == tokens


def test_a_call_without_token_ids_is_written_as_before_there_were_any() -> None:
    written = msgspec.msgpack.decode(msgspec.msgpack.encode(ToolCallStarted(0, "call_1", "f")))
    assert written == {"type": "ToolCallStarted", "index": 0, "id": "call_1", "name": "f"}
