"""What is remembered: in order, bounded, and gone when it is to be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meshnode.domain import ModelId, PeerId
from meshnode.mesh.remember import KEEP_S, LONGEST_ADDRESS, MOST_ADDRESSES, MOST_PEERS, Remembered, Seen
from meshnode.storage.database import Connection, Database, open_inline

ANN, BEN = PeerId("12D3KooWann"), PeerId("12D3KooWben")


class Clock:
    """Seconds since 1970, as the test says."""

    now = 1_700_000_000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_inline() as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remembered(database: Database, clock: Clock) -> Remembered:
    return Remembered(database, clock)


async def test_addresses_joined_keep_their_order_and_come_once(remembered: Remembered) -> None:
    assert await remembered.joined() == ()
    for address in ("/ip4/1.2.3.4/tcp/9/p2p/x", "/dns/mesh.example/tcp/9/p2p/y", "/ip4/1.2.3.4/tcp/9/p2p/x"):
        await remembered.add(address)
    assert await remembered.joined() == ("/ip4/1.2.3.4/tcp/9/p2p/x", "/dns/mesh.example/tcp/9/p2p/y")


async def test_peers_come_newest_first_with_the_addresses_of_the_last_time(remembered: Remembered) -> None:
    await remembered.saw(ANN, ["/ip4/1.2.3.4/tcp/1"])
    await remembered.saw(BEN, ["/ip4/1.2.3.4/tcp/2", "/ip4/1.2.3.4/udp/2"])
    await remembered.saw(ANN, ["/ip4/1.2.3.4/tcp/3"])
    both = (Seen(ANN, ("/ip4/1.2.3.4/tcp/3",)), Seen(BEN, ("/ip4/1.2.3.4/tcp/2", "/ip4/1.2.3.4/udp/2")))
    assert await remembered.recent(5) == both
    assert await remembered.recent(1) == both[:1]
    assert await remembered.recent(-1) == ()


async def test_a_peer_without_an_address_or_with_silly_ones_costs_nothing(remembered: Remembered) -> None:
    await remembered.saw(ANN, [])
    await remembered.saw(BEN, ["x" * (LONGEST_ADDRESS + 1)])
    assert await remembered.recent(5) == ()
    await remembered.saw(BEN, [f"/ip4/1.2.3.4/tcp/{port}" for port in range(1000)])
    [seen] = await remembered.recent(5)
    assert len(seen.addresses) == MOST_ADDRESSES


async def test_the_peers_not_seen_for_longest_make_room(remembered: Remembered) -> None:
    for number in range(MOST_PEERS + 10):
        await remembered.saw(PeerId(f"peer{number}"), ["/ip4/1.2.3.4/tcp/1"])
    recent = await remembered.recent(10**6)
    assert [seen.peer for seen in recent] == [f"peer{n}" for n in range(MOST_PEERS + 9, 9, -1)]


async def test_who_was_not_seen_for_a_month_is_forgotten(
    remembered: Remembered, clock: Clock, database: Database
) -> None:
    await remembered.saw(ANN, ["/ip4/1.2.3.4/tcp/1"])
    clock.now += KEEP_S
    assert [seen.peer for seen in await remembered.recent(5)] == [ANN]
    clock.now += 1
    assert await remembered.recent(5) == ()
    await remembered.saw(BEN, ["/ip4/1.2.3.4/tcp/1"])

    def count(connection: Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM peer_address").fetchone()[0])

    assert await database.read(count) == 1


async def test_a_clock_that_was_ahead_keeps_nobody_for_ever(remembered: Remembered, clock: Clock) -> None:
    clock.now += 10 * 365 * 86400
    await remembered.saw(ANN, ["/ip4/1.2.3.4/tcp/1"])
    clock.now -= 10 * 365 * 86400
    await remembered.saw(BEN, ["/ip4/1.2.3.4/tcp/1"])
    assert [seen.peer for seen in await remembered.recent(5)] == [BEN, ANN]
    clock.now += KEEP_S + 1
    assert await remembered.recent(5) == ()


async def test_forgetting_leaves_no_address_and_says_how_many_there_were(remembered: Remembered) -> None:
    await remembered.add("/ip4/1.2.3.4/tcp/9/p2p/x")
    await remembered.saw(ANN, ["/ip4/1.2.3.4/tcp/1"])
    await remembered.saw(BEN, ["/ip4/1.2.3.4/tcp/1"])
    await remembered.set_served(ModelId("m"), True)
    assert await remembered.forget_all() == 3
    assert (await remembered.joined(), await remembered.recent(5)) == ((), ())
    assert await remembered.forget_all() == 0
    assert await remembered.served() == {"m": True}


async def test_the_last_word_on_a_model_stands(remembered: Remembered) -> None:
    assert await remembered.served() == {}
    await remembered.set_served(ModelId("qwen3-8b:q4_k_m"), True)
    await remembered.set_served(ModelId("Qwen3-8B:Q4_K_M"), False)
    await remembered.set_served(ModelId("other"), True)
    assert await remembered.served() == {"qwen3-8b:q4_k_m": False, "other": True}
