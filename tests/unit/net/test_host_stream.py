"""A libp2p stream behind our contract; what both transports must do is in tests/contract/test_transport.py."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.protocol_muxer.exceptions import ProtocolNotSupportedError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from meshnode.errors import StreamReset, Unreachable
from meshnode.net import guards
from meshnode.net.host_stream import HostStream, select
from tests.kit.libp2p_traps import pair
from tests.kit.peers import BOB


async def wrapped(muxed: Any) -> HostStream:
    """A muxed stream as the host hands it out."""
    net = NetStream(muxed, None, None)
    await net.set_state(StreamState.OPEN)
    return HostStream(net, BOB.peer_id, "/test/1")


def test_it_takes_only_guarded_streams() -> None:
    plain: Any = object.__new__(YamuxStream)
    plain.muxed_conn = None
    with pytest.raises(TypeError, match="guarded"):
        HostStream(NetStream(plain, None, None), BOB.peer_id, "/test/1")


async def test_how_a_stream_ends_is_told_apart() -> None:
    guards.install()
    async with pair() as (a, b, wire):
        near = [await wrapped(await a.open_stream()) for _ in range(3)]
        far = [await wrapped(await b.accept_stream()) for _ in range(3)]
        await far[0].close_write()
        assert await near[0].read() == b""
        await far[1].reset()
        with pytest.raises(StreamReset, match=str(BOB.peer_id)):
            await near[1].read()
        await wire.close()
        for stream in (near[2], far[2]):
            with pytest.raises(Unreachable, match="lost"):
                await stream.read()
        with pytest.raises(Unreachable, match="lost"):
            await near[2].write(b"x")


async def test_after_its_end_it_is_closed() -> None:
    guards.install()
    async with pair() as (a, b, _):
        near, far = await wrapped(await a.open_stream()), await wrapped(await b.accept_stream())
        await near.write(b"all")
        await near.close()
        await near.close()
        await near.reset()
        for act in (near.read(), near.write(b"x")):
            with pytest.raises(trio.ClosedResourceError):
                await act
        assert await far.read() == b"all"
        assert await far.read() == b""
        with pytest.raises(StreamReset):
            await far.write(b"nobody reads this")
        assert not a.streams


async def test_a_protocol_that_is_declined_is_told_apart_from_silence() -> None:
    guards.install()
    async with pair() as (a, b, _), trio.open_nursery() as nursery:
        near = NetStream(await a.open_stream(), None, None)
        far = await b.accept_stream()

        async def decline() -> None:
            await far.write(b"\x13/multistream/1.0.0\n\x03na\n")

        nursery.start_soon(decline)
        with pytest.raises(ProtocolNotSupportedError):
            await select(near, "/test/none/1")
