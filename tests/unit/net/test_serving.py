"""Handlers are contained, and streams counted."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs

from meshnode.domain import PeerId
from meshnode.errors import Overloaded, Unreachable
from meshnode.net.serving import Slots, report, serve
from meshnode.net.transport import CHUNK, Stream
from tests.kit.peers import ALICE, BOB


class Noted:
    """A stream that notes what is done to it."""

    peer = BOB.peer_id
    protocol = "/test/1"

    def __init__(self) -> None:
        self.acts: list[str] = []

    async def read(self, limit: int = CHUNK) -> bytes:
        return b"the prompt"

    async def write(self, data: bytes) -> None:
        self.acts.append("write")

    async def close_write(self) -> None:
        self.acts.append("close_write")

    async def close(self) -> None:
        self.acts.append("close")

    async def reset(self) -> None:
        self.acts.append("reset")


async def test_a_stream_whose_handler_returns_is_closed() -> None:
    async def handler(stream: Stream) -> None:
        await stream.write(b"x")

    stream = Noted()
    await serve(handler, stream)
    assert stream.acts == ["write", "close", "reset"]  # a reset does nothing to a closed stream


async def test_a_failing_handler_is_logged_without_what_it_served() -> None:
    async def handler(stream: Stream) -> None:
        raise ValueError(f"cannot serve {await stream.read()!r}")

    stream = Noted()
    with capture_logs() as logs:
        await serve(handler, stream)
    assert stream.acts == ["reset"]
    assert (logs[0]["event"], logs[0]["error"], logs[0]["peer"]) == ("stream_handler_failed", "ValueError", BOB.peer_id)
    assert logs[0]["where"].startswith("test_serving.py:")
    assert "prompt" not in str(logs)


async def test_a_peer_that_goes_is_no_failure_of_ours() -> None:
    async def handler(stream: Stream) -> None:
        raise Unreachable("gone")

    with capture_logs() as logs:
        await serve(handler, Noted())
    assert [entry["log_level"] for entry in logs] == ["debug"]


async def test_a_cancelled_handler_resets_its_stream() -> None:
    async def handler(stream: Stream) -> None:
        await trio.sleep_forever()

    stream = Noted()
    with trio.move_on_after(0):
        await serve(handler, stream)
    assert stream.acts == ["reset"]


def test_a_failure_that_was_never_raised_has_no_place() -> None:
    with capture_logs() as logs:
        report(BOB.peer_id, "/test/1", ValueError())
    assert logs[0]["where"] == "?"


def test_slots_are_per_peer_and_come_back() -> None:
    slots = Slots(2)

    def take(peer: PeerId) -> None:
        with slots.hold(peer):
            pass

    with slots.hold(BOB.peer_id), slots.hold(BOB.peer_id):
        take(ALICE.peer_id)
        with pytest.raises(Overloaded, match="2 streams") as caught:
            take(BOB.peer_id)
        assert caught.value.retry_after_s
    take(BOB.peer_id)
