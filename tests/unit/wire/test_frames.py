"""Frames come out as they went in, however the bytes were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation
from meshnode.wire.frames import FrameReader, pack

payloads = st.lists(st.binary(max_size=40), max_size=8)


@given(payloads, st.lists(st.integers(0, 400), max_size=12))
def test_any_cut_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pack(payload, limit=64) for payload in sent)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    reader, got = FrameReader(limit=64), []
    for start, end in itertools.pairwise(places):
        got += list(reader.feed(data[start:end]))
    assert got == sent
    assert reader.pending == 0


@given(st.binary(min_size=1, max_size=40), st.integers(0, 43))
def test_nothing_comes_out_before_a_frame_is_whole(payload: bytes, length: int) -> None:
    data = pack(payload, limit=64)
    part = data[: min(length, len(data) - 1)]
    reader = FrameReader(limit=64)
    assert list(reader.feed(part)) == []
    assert reader.pending == len(part)


@given(st.integers(0, 64))
def test_the_bound_holds_both_ways(size: int) -> None:
    payload = bytes(size)
    assert list(FrameReader(limit=size).feed(pack(payload, limit=size))) == [payload]
    with pytest.raises(ProtocolViolation):
        pack(payload + b"x", limit=size)
    with pytest.raises(ProtocolViolation):
        list(FrameReader(limit=size).feed(pack(payload + b"x", limit=size + 1)))


def test_an_announced_length_over_the_bound_is_refused_before_its_payload_comes() -> None:
    reader = FrameReader(limit=1000)
    with pytest.raises(ProtocolViolation):
        list(reader.feed(b"\xff\xff\xff\xff"))


def test_frames_before_the_bad_one_are_still_given() -> None:
    frames = FrameReader(limit=8).feed(pack(b"good", limit=8) + b"\xff\xff\xff\xff")
    assert next(frames) == b"good"
    with pytest.raises(ProtocolViolation):
        next(frames)
