"""Questions and the reading of answers, without a connection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import client_asks as asks
from meshnode.client_asks import Lines
from meshnode.errors import InternalFault, ModelNotFound, NotFound, WorkerDied


def words(line: bytes) -> Sequence[bytes] | None:
    return None if line == b"end" else [line]


def read(pieces: list[bytes]) -> list[bytes]:
    lines = Lines(words)
    found = [each for piece in pieces for each in lines.feed(piece)]
    return found + list(lines.end())


@given(
    st.lists(st.sampled_from([b"a", b"bc", "é".encode(), b""]), max_size=8),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_lines_come_whole_however_they_are_cut(sent: list[bytes], end: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + end for line in sent)
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in pairwise(places)]
    assert read(pieces) == [line for line in sent if line]


def test_after_the_last_line_nothing_is_read() -> None:
    assert read([b"a\nend\nb\n", b"c"]) == [b"a"]


def test_the_last_line_needs_no_end() -> None:
    assert read([b"a\nb"]) == [b"a", b"b"]


def test_a_line_without_end_is_given_up() -> None:
    lines = Lines(words)
    with pytest.raises(InternalFault, match="line of more than"):
        list(lines.feed(b"x" * (asks.LONGEST_LINE + 1)))


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
