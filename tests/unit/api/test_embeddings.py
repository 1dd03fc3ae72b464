"""Vectors in OpenAI's shape."""

from __future__ import annotations

import base64
import struct

from meshnode.api.embeddings import EmbeddingRenderer
from meshnode.api.render import Heading
from meshnode.domain import ModelId
from meshnode.events import EmbeddingResult, Event, Finished, Started, Usage

HEADING = Heading("embd-1", 7, ModelId("m"), "fp")
ONE, TWO = struct.pack("<2f", 0.5, -2.0), struct.pack("<2f", 0.25, 8.0)
EVENTS: list[Event] = [
    Started(9),
    EmbeddingResult(1, TWO),
    EmbeddingResult(0, ONE),
    Finished(Usage(prompt_tokens=9)),
]


def rendered(*, compact: bool) -> dict[str, object]:
    renderer = EmbeddingRenderer(HEADING, include_usage=True, echo={"compact": compact})
    for event in EVENTS:
        renderer.collect(event)
    assert renderer.chunks(EVENTS) == []
    return renderer.whole()


def test_numbers_in_the_order_of_the_inputs() -> None:
    assert rendered(compact=False) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": (0.5, -2.0)},
            {"object": "embedding", "index": 1, "embedding": (0.25, 8.0)},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_base64_of_little_endian_floats() -> None:
    data = rendered(compact=True)["data"]
    assert isinstance(data, list)
    assert [base64.b64decode(each["embedding"]) for each in data] == [ONE, TWO]
