"""Two honest nodes under all the trouble that can be had: nobody is blamed, nothing leaks, the books agree.

Each seed is a mesh of its own on a virtual clock: delays, disks, speeds and clients are drawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.net.memory import open_network
from meshnode.storage.database import open_inline
from tests.kit.mesh import open_party
from tests.kit.peers import ALICE, BOB
from tests.kit.streams import ANY_PORT
from tests.kit.trouble import SlowDisk, balanced, live


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What thousands of requests log is of no interest."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent


@pytest.mark.parametrize("seed", range(12))
async def test_honest_nodes_blame_nobody_leak_nothing_and_agree(autojump_clock: MockClock, seed: int) -> None:
    random = Random(seed)
    delay_s, disk_s = random.choice([0, 0.002, 0.05, 0.3]), random.choice([0, 0.005, 0.1, 0.5])
    async with (
        open_inline() as one,
        open_inline() as other,
        open_network(delay_s=delay_s) as network,
        network.open_host(ALICE, ANY_PORT) as there,
        network.open_host(BOB, ANY_PORT) as here,
        open_party(ALICE, there, database=SlowDisk(one, random, disk_s), step_s=0.02, slots=4) as alice,
        open_party(BOB, here, database=SlowDisk(other, random, disk_s), step_s=0.002, slots=4) as bob,
    ):
        await there.connect(here.addresses[0])
        ends = await live(random, network, alice, bob, cuts=seed % 3 != 0)
        await trio.sleep(60)
        assert ends["ok"]
        for party in (alice, bob):
            assert not party.violations, (seed, party.violations[:3])
            assert party.provider is not None
            assert (party.places.held, party.provider.bodies) == (0, 0)
        assert await balanced(alice, bob), ends
        assert await balanced(bob, alice), ends
