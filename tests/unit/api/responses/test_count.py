"""Counting a prompt's tokens."""

from __future__ import annotations

import pytest
from openai.types.responses.input_token_count_response import InputTokenCountResponse

from meshnode.api.render import Heading
from meshnode.api.responses.count import CountRenderer
from meshnode.domain import ModelId
from meshnode.errors import WorkerDied
from meshnode.events import Counted, Event, Finished, Started, Usage


@pytest.mark.parametrize("events", [[Started(7)], [Counted(7)], [Started(7), Counted(7, (1, 2)), Finished(Usage())]])
def test_whichever_event_tells_the_number(events: list[Event]) -> None:
    renderer = CountRenderer(Heading("resp_1", 17, ModelId("tiny"), ""), include_usage=True)
    for event in events:
        renderer.collect(event)
    found = InputTokenCountResponse.model_validate(renderer.whole(), strict=True)
    assert (found.input_tokens, found.object) == (7, "response.input_tokens")
    assert renderer.chunks(events) == renderer.failed(WorkerDied("x")) == []
