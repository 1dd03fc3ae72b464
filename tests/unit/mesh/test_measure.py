"""What is counted of an answer, however it ends."""

from __future__ import annotations

import pytest

from meshnode.domain import ModelId, RequestId
from meshnode.events import Event, Failed, Finished, Started, TextDelta, Usage
from meshnode.mesh.measure import Measure
from meshnode.observe import Metrics


def measured(*events: Event, error: type[BaseException] | None = None) -> str:
    """The metrics after one answer of these events."""
    metrics = Metrics()
    try:
        with Measure(metrics, iter(range(100)).__next__, request=RequestId("r"), model=ModelId("m")) as measure:
            for event in events:
                measure.observe(event)
            if error is not None:
                raise error
    except KeyboardInterrupt:
        pass
    return metrics.render()[0].decode()


@pytest.mark.parametrize(
    ("events", "outcome", "prompt", "completion"),
    [
        ((Started(5), TextDelta("a", 0, (1,)), Finished(Usage(5, 9))), "ok", 5, 9),
        ((Started(5), TextDelta("ab", 0, (1, 2)), Failed("worker_died", "")), "worker_died", 5, 2),
        ((Started(5), TextDelta("a", 0, (1,)), TextDelta("b", 0, (1,))), "cancelled", 5, 2),
        ((), "cancelled", 0, 0),
    ],
)
def test_outcome_and_tokens(events: tuple[Event, ...], outcome: str, prompt: int, completion: int) -> None:
    text = measured(*events)
    assert f'meshnode_requests_total{{model="m",outcome="{outcome}"}} 1.0' in text
    assert f"meshnode_prompt_tokens_total {prompt:.1f}" in text
    assert f"meshnode_completion_tokens_total {completion:.1f}" in text
    assert "meshnode_requests_processing 0.0" in text


def test_an_error_in_the_callers_block_is_a_caller_that_left() -> None:
    text = measured(Started(1), error=KeyboardInterrupt)
    assert 'outcome="cancelled"' in text
    assert "meshnode_requests_processing 0.0" in text


def test_the_first_text_stops_the_clock_once() -> None:
    text = measured(Started(1), TextDelta("a"), TextDelta("b"))
    assert "meshnode_time_to_first_token_seconds_sum 1.0" in text
    assert "meshnode_time_to_first_token_seconds_count 1.0" in text
