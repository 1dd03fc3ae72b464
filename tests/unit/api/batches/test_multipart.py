"""Uploads as clients send them, cut anywhere; and bytes that are no upload."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.batches.multipart import MOST_PARTS, STEP, Piece, Reader, boundary_of
from meshnode.errors import MalformedBody, UnsupportedMediaType

UPLOAD = (
    b'--xyz\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
END = b"\r\n--xyz--\r\n"


def read(*pieces: bytes) -> dict[tuple[str, str | None], bytes]:
    """The parts of an upload that comes in these pieces."""
    reader = Reader(b"xyz")
    parts: defaultdict[tuple[str, str | None], bytes] = defaultdict(bytes)
    for one in [piece for data in pieces for piece in reader.feed(data)] + list(reader.end()):
        parts[one.name, one.filename] += one.data
    return dict(parts)


@given(st.binary(max_size=300).filter(lambda data: b"--xyz" not in data), st.lists(st.integers(0, 600), max_size=6))
def test_what_is_sent_is_what_is_read_however_it_is_cut(content: bytes, cuts: list[int]) -> None:
    whole = UPLOAD + content + END
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in pairwise(places)]
    assert read(*pieces) == {("purpose", None): b"batch", ("file", "in.jsonl"): content}


def test_a_large_file_comes_in_pieces_and_nothing_of_it_is_held_back() -> None:
    reader = Reader(b"xyz")
    content = b"0123456789abcde\n" * (4 * STEP // 16)
    pieces = list(reader.feed(UPLOAD + content))
    sizes = [len(piece.data) for piece in pieces if piece.filename]
    assert max(sizes) <= STEP + len(UPLOAD)
    assert sum(sizes) >= len(content) - len(END)
    assert not any(piece.last for piece in pieces if piece.filename)


def test_a_part_says_when_it_ends() -> None:
    assert list(Reader(b"xyz").feed(UPLOAD + b"x" + END)) == [
        Piece("purpose", None, b"batch", True),
        Piece("file", "in.jsonl", b"x", True),
    ]


PART = b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not an upload",
        UPLOAD,
        UPLOAD + b"cut off",
        b"--xyz\r\nContent-Type: text/plain\r\n\r\nno name" + END,
        b"--xyz\r\nContent-Disposition: form-data\r\n\r\nno name" + END,
        b'--xyz\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nodd' + END,
        PART * (MOST_PARTS + 1) + END,
        b"--xyz\r\nX: " + b"x" * 4 * STEP,
        b"preamble" * STEP,
    ],
    ids=range(10),
)
def test_what_is_no_upload_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        read(body)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_garbage_is_read_or_refused_and_nothing_else(garbage: bytes, cut: int) -> None:
    with contextlib.suppress(MalformedBody):
        read(b"--xyz\r\n" + garbage[:cut], garbage[cut:] + END)


def test_the_boundary_is_the_headers() -> None:
    assert boundary_of('Multipart/Form-Data; boundary="a b"') == b"a b"


@pytest.mark.parametrize("header", [None, "", "application/json", "multipart/mixed; boundary=x"])
def test_another_kind_of_body_is_refused(header: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        boundary_of(header)


@pytest.mark.parametrize(
    "header",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 71],
)
def test_a_boundary_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(MalformedBody):
        boundary_of(header)
