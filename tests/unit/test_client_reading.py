"""The reading of answers, without a connection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.client_reading import LONGEST_LINE, Lines, as_record, checked, field, listed, nothing, raise_envelope
from meshnode.client_records import Served
from meshnode.errors import InternalFault, ModelNotFound, ServingError, WorkerDied


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
        list(lines.feed(b"x" * (LONGEST_LINE + 1)))


def test_one_field_is_read_and_others_are_left_alone() -> None:
    assert field("a", int)(b'{"a": 1, "b": 2}') == 1
    assert listed("models", Served)(b'{"models": [{"id": "x", "served": true}]}') == (Served(id="x", served=True),)  # type: ignore[arg-type]
    nothing(b"anything")
    with pytest.raises(InternalFault, match="one version"):
        as_record(Served)(b"[]")


def test_an_error_is_the_class_that_its_code_names() -> None:
    with pytest.raises(ModelNotFound):
        raise_envelope(b'{"error": {"message": "no x.", "code": "model_not_found"}}', 404)
    with pytest.raises(ServingError, match="HTTP 502"):
        raise_envelope(b"oops", 502)
    assert checked(b'{"text": "an \\"error\\""}') == b'{"text": "an \\"error\\""}'
    with pytest.raises(WorkerDied):
        checked(b'{"error": {"message": "it died.", "code": "worker_died"}}')
