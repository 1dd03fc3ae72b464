"""Questions, without a connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode import client_asks as asks
from meshnode.client_reading import Lines
from meshnode.errors import InternalFault, ModelNotFound, NotFound, WorkerDied


def test_what_came_before_an_error_is_told_first() -> None:
    lines = Lines(asks.chat([]).read)
    said = lines.feed(
        b'data: {"choices": [{"delta": {"content": "Good"}}]}\n'
        b'data: {"error": {"message": "it died.", "code": "worker_died"}}\n'
    )
    assert next(said) == "Good"
    with pytest.raises(WorkerDied):
        next(said)


def test_names_are_one_piece_of_a_path() -> None:
    assert asks.remove("a/../b:q8_0").path == "/api/models/a%2F..%2Fb:q8_0"
    assert asks.template("a b/c", 3).path == "/api/templates/a%20b%2Fc?version=3"
    assert asks.template("x").path == "/api/templates/x"
    assert asks.fit("m", 7).path == "/api/models/m/fit?context=7"


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a" * 257])
def test_what_no_path_can_hold_is_not_asked_for(name: str) -> None:
    with pytest.raises(ModelNotFound):
        asks.load(name)
    with pytest.raises(NotFound):
        asks.remove_template(name)


def test_bodies_say_only_what_was_said() -> None:
    assert asks.tokenize("a").body == {"content": "a"}
    assert asks.pieces("a", "m").body == {"content": "a", "with_pieces": True, "model": "m"}
    assert asks.detokenize(iter([1, 2])).body == {"tokens": [1, 2]}
    assert asks.add(Path("/x.gguf")).body == {"path": "/x.gguf"}


def test_an_answer_is_read_as_what_it_is() -> None:
    assert asks.tokenize("a").read(b'{"tokens": [1, 2], "news": 1}') == (1, 2)
    assert asks.models().read(b'{"models": [{"id": "a"}]}')[0].id == "a"
    assert asks.raw(asks.status()).read(b"{}") == b"{}"
    assert asks.health().also == (503,)
    with pytest.raises(InternalFault, match="one version"):
        asks.tokenize("a").read(b'{"tokens": "a"}')
