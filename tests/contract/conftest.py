"""Hosts of every kind, for the suites on transports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshnode.net.host import open_host
from meshnode.net.memory import open_network
from meshnode.net.transport import Transport
from tests.kit.peers import ALICE, BOB
from tests.kit.streams import ANY_PORT, ECHO, Opener, echo


@pytest.fixture(params=["memory", "libp2p"])
async def opener(request: Any) -> AsyncIterator[Opener]:
    """Opens hosts of one kind; the arguments are those of open_host."""
    if request.param == "libp2p":
        yield open_host
    else:
        async with open_network() as network:
            yield network.open_host


@pytest.fixture
async def alice(opener: Opener) -> AsyncIterator[Transport]:
    """A host that listens, like the others."""
    async with opener(ALICE, ANY_PORT) as host:
        yield host


@pytest.fixture
async def bob(opener: Opener) -> AsyncIterator[Transport]:
    """Alice's peer; it echoes."""
    async with opener(BOB, ANY_PORT) as host:
        host.set_handler(ECHO, echo)
        yield host
