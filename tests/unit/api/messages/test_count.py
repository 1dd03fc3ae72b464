"""A count as Anthropic's object."""

from __future__ import annotations

from meshnode.api.messages.count import CountRenderer
from meshnode.api.render import Heading
from meshnode.domain import ModelId
from meshnode.errors import InternalFault
from meshnode.events import Counted, Event, Finished, Started, Usage

HEADING = Heading("count_1", 1, ModelId("m"), "fp")


def counted(*events: Event) -> object:
    renderer = CountRenderer(HEADING, include_usage=True)
    for event in events:
        renderer.collect(event)
    return renderer.whole()


def test_the_engines_count_is_told() -> None:
    assert counted(Started(7), Counted(7), Finished(Usage(7))) == {"input_tokens": 7}
    assert counted(Started(7), Finished(Usage(7))) == {"input_tokens": 7}


def test_it_is_no_stream() -> None:
    renderer = CountRenderer(HEADING, include_usage=True)
    assert renderer.chunks([Counted(7)]) == []
    assert renderer.failed(InternalFault("x")) == []
