"""The worker's end of the pipe never blocks, and never loses its place."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from meshnode.engine.channel import Channel, HungUpError
from meshnode.engine.pipe import Grant, LoadFailed, Ping, Pong, decode_from_worker, encode
from meshnode.wire.frames import FrameReader, pack

LIMIT = 2**26


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the parent's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        yield Channel(ours), theirs


def packed(*messages: Ping | Grant) -> bytes:
    """Frames."""
    return b"".join(pack(encode(message), limit=LIMIT) for message in messages)


def test_messages_arrive_in_order_however_they_are_cut(ends: tuple[Channel, socket.socket]) -> None:
    channel, parent = ends
    messages = [Ping(nonce=n) for n in range(20)]
    for byte in packed(*messages):
        parent.sendall(bytes((byte,)))
        channel.poll()
    assert list(iter(channel.take, None)) == messages


def test_nothing_to_read_is_no_reason_to_wait(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    channel.poll()
    assert channel.take() is None


def test_peeking_does_not_take(ends: tuple[Channel, socket.socket]) -> None:
    channel, parent = ends
    parent.sendall(packed(Ping(nonce=1), Grant(number=1, tokens=2)))
    channel.poll(10.0)
    assert channel.peek() == (Ping(nonce=1), Grant(number=1, tokens=2))
    assert channel.take() == Ping(nonce=1)


def test_a_parent_that_does_not_read_blocks_nothing(ends: tuple[Channel, socket.socket]) -> None:
    channel, parent = ends
    message = LoadFailed(reason="x" * 100_000)
    for _ in range(20):
        channel.send(message)
    assert channel.unsent > 0
    parent.sendall(packed(Ping(nonce=7)))
    channel.poll(10.0)
    assert channel.take() == Ping(nonce=7), "reading goes on"
    reader, got = FrameReader(limit=LIMIT), 0
    while got < 20:
        channel.poll()
        got += sum(decode_from_worker(payload) == message for payload in reader.feed(parent.recv(2**20)))
    assert channel.unsent == 0


def test_the_end_of_the_pipe_comes_after_what_was_said(ends: tuple[Channel, socket.socket]) -> None:
    channel, parent = ends
    parent.sendall(packed(Ping(nonce=1)))
    parent.close()
    channel.poll(10.0)
    assert channel.take() == Ping(nonce=1)
    for _ in range(2):
        with pytest.raises(HungUpError):
            channel.poll(10.0)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", pack(b"\xc1", limit=9), pack(encode(Pong(nonce=1)), limit=99)])
def test_a_parent_that_talks_nonsense_is_as_good_as_gone(ends: tuple[Channel, socket.socket], data: bytes) -> None:
    channel, parent = ends
    parent.sendall(data)
    for _ in range(2):
        with pytest.raises(HungUpError):
            channel.poll(10.0)


def test_writing_to_nobody_is_hanging_up(ends: tuple[Channel, socket.socket]) -> None:
    channel, parent = ends
    parent.close()
    with pytest.raises(HungUpError):
        channel.send(Pong(nonce=1))
