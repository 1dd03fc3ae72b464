"""A node that tells what it offers, and one that a test makes what it likes of, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from meshnode.net.memory import MemoryHost, MemoryNetwork, open_network
from tests.kit.peers import ALICE, BOB
from tests.kit.streams import ANY_PORT
from tests.kit.tellers import Teller, teller


@pytest.fixture
async def network(autojump_clock: MockClock) -> AsyncIterator[MemoryNetwork]:
    """Nothing here may hang, and a byte takes 10 ms."""
    with trio.fail_after(3600):
        async with open_network(delay_s=0.01) as network:
            yield network


@pytest.fixture
async def alice(network: MemoryNetwork) -> AsyncIterator[Teller]:
    """A node with one model."""
    async with teller(network, ALICE, "a:q8_0") as node:
        yield node


@pytest.fixture
async def bob(network: MemoryNetwork) -> AsyncIterator[MemoryHost]:
    """A host of which a test makes what it likes."""
    async with network.open_host(BOB, ANY_PORT) as host:
        yield host
