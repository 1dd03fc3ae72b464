"""Finding company on a virtual clock: who is dialled, who is kept, and what a request for an unknown model sets off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from meshnode.errors import ConfigError
from meshnode.mesh import discover as module
from meshnode.mesh.discover import (
    DIAL_S,
    DIALS,
    OFFER_S,
    OFTEN_S,
    PER_ROUND,
    SEEKING,
    SELDOM_S,
    USEFUL,
    VAIN_S,
    WANTING_S,
    Discovery,
    name_of,
    names_of,
)
from meshnode.net.directory import CATALOGUE, Hint
from meshnode.net.memory import open_network
from meshnode.net.memory_directory import Board
from tests.kit.lookout import Around, provider, running
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB, CAROL, identity
from tests.kit.streams import ANY_PORT
from tests.kit.tellers import WALL_S, open_teller, signed

DAVE = identity("dave")


@pytest.fixture
async def around(autojump_clock: MockClock) -> AsyncIterator[Around]:
    """Alice knows nobody; nothing may hang."""
    with trio.fail_after(3600):
        async with (
            open_network(delay_s=0.01) as network,
            network.open_host(ALICE, ANY_PORT) as host,
            open_teller(ALICE, host) as teller,
        ):
            yield Around(network, teller, host)


# --- company --------------------------------------------------------------------------------------


async def test_a_joined_peer_is_held_until_it_is_let_go(autojump_clock: MockClock, around: Around) -> None:
    discovery = around.discovery()
    async with around.network.open_host(BOB, ANY_PORT) as bob, around.network.open_host(CAROL, ANY_PORT) as carol:
        discovery.hold(bob.addresses[0])
        with pytest.raises(ConfigError):
            discovery.hold("/ip4/10.0.0.1/tcp/1")
        async with running(discovery):
            discovery.hold(carol.addresses[0])
            discovery.hold(carol.addresses[0])
            await trio.sleep(1)
            assert around.host.peers == {BOB.peer_id, CAROL.peer_id}
            for other in (BOB, CAROL):
                around.network.cut(ALICE.peer_id, other.peer_id)
            await trio.sleep(5)
            assert around.host.peers == {BOB.peer_id, CAROL.peer_id}
            discovery.let_go()
            around.network.cut(ALICE.peer_id, BOB.peer_id)
            await trio.sleep(100)
            assert around.host.peers == {CAROL.peer_id}


async def test_who_is_let_go_at_once_is_not_even_dialled(autojump_clock: MockClock, around: Around) -> None:
    discovery = around.discovery()
    async with around.network.open_host(BOB, ANY_PORT) as bob, running(discovery):
        discovery.hold(bob.addresses[0])
        discovery.let_go()
        await trio.sleep(10)
        assert not around.host.peers


async def test_peers_of_earlier_runs_are_met_newest_first_two_at_a_time(
    autojump_clock: MockClock, around: Around
) -> None:
    around.directory.list_dead("x", 20)
    remembered = around.directory.hints["x"]
    async with provider(around.network, BOB, "b:q8_0") as bob:
        newest = Hint(peer=BOB.peer_id, addresses=bob.addresses)
        async with running(around.discovery(remembered=[newest, *remembered])):
            await trio.sleep(100)
            dialled = [peer for _, peer in around.dials]
            assert set(dialled[:2]) == {BOB.peer_id, remembered[0].peer}  # at the same time
            assert sorted(dialled) == sorted([BOB.peer_id, *(hint.peer for hint in remembered[:15])])
            assert around.most_dials == 2
            assert around.remembered == [(BOB.peer_id, bob.addresses)]


async def test_peers_on_the_same_link_are_met_and_nonsense_is_not(autojump_clock: MockClock, around: Around) -> None:
    send, found = trio.open_memory_channel[str](10)
    async with (
        provider(around.network, BOB, "b:q8_0") as bob,
        around.network.open_host(CAROL, ANY_PORT) as carol,
        running(around.discovery(found=found)),
    ):
        for address in ("nonsense", "/ip4/10.0.0.1/tcp/1", *around.host.addresses, *bob.addresses, *carol.addresses):
            await send.send(address)
        await trio.sleep(10)
        assert around.host.peers == {BOB.peer_id, CAROL.peer_id}
        assert [peer for peer, _ in around.remembered] == [BOB.peer_id]
        send.close()


async def test_neighbours_that_do_not_answer_are_dialled_few_at_a_time(
    autojump_clock: MockClock, around: Around
) -> None:
    send, found = trio.open_memory_channel[str](100)
    around.directory.list_dead("x", 30)
    for hint in around.directory.hints["x"]:
        send.send_nowait(hint.addresses[0])
    async with running(around.discovery(found=found)):
        await trio.sleep(DIAL_S * 7.5 - 1)
        assert around.most_dials == DIALS
        assert len(around.dials) >= 28


async def test_what_cannot_be_remembered_is_used_all_the_same(autojump_clock: MockClock, around: Around) -> None:
    around.full = True
    async with provider(around.network, BOB, "b:q8_0") as bob:
        remembered = [Hint(peer=BOB.peer_id, addresses=bob.addresses)]
        async with running(around.discovery(remembered=remembered)):
            await trio.sleep(5)
            assert around.host.peers == {BOB.peer_id}


# --- the directory in the background --------------------------------------------------------------


async def test_the_catalogue_leads_to_peers_that_offer_something(autojump_clock: MockClock, around: Around) -> None:
    async with (
        around.network.open_host(BOB, ANY_PORT) as bob,
        provider(around.network, CAROL, "c:q8_0") as carol,
        running(around.discovery()),
    ):
        around.directory.list(CATALOGUE, bob, carol)
        await trio.sleep(10)
        assert around.directory.asked == []  # nobody could be asked
        await around.host.connect(bob.addresses[0])
        await around.teller.until_known(CAROL.peer_id, "c:q8_0")
        await trio.sleep(OFFER_S)
        assert around.remembered == [(CAROL.peer_id, carol.addresses)]


async def test_who_belongs_nowhere_looks_for_nobody(autojump_clock: MockClock, around: Around) -> None:
    async with around.network.open_host(BOB, ANY_PORT) as bob, running(around.discovery(belongs=False)):
        await around.host.connect(bob.addresses[0])
        await trio.sleep(200)
        assert around.directory.asked == []


async def test_look_ups_are_frequent_while_few_are_known_and_seldom_then(
    autojump_clock: MockClock, around: Around
) -> None:
    async with around.network.open_host(BOB, ANY_PORT) as bob, running(around.discovery()):
        await around.host.connect(bob.addresses[0])
        await trio.sleep(200)
        times = [at for at, name in around.directory.asked if name == CATALOGUE]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert 4 <= len(gaps) <= 8
        assert all(OFTEN_S * 0.7 < gap < OFTEN_S * 1.3 for gap in gaps)
        around.directory.asked.clear()
        for number in range(USEFUL):
            who = identity(f"peer {number}")
            told = signed(who, offer(who, model_offer(), issued_ms=round(1000 * WALL_S)))
            around.teller.book.take(told, source=who.peer_id, now=trio.current_time() + 1e6, wall_ms=0)
        await trio.sleep(1000)
        assert 1000 / SELDOM_S / 1.5 <= len(around.directory.asked) <= 1000 / SELDOM_S + 1


async def test_hints_that_lead_nowhere_are_passed_over_for_others_and_for_a_while(
    autojump_clock: MockClock, around: Around
) -> None:
    around.directory.list_dead(CATALOGUE, PER_ROUND + 4)
    async with (
        around.network.open_host(BOB, ANY_PORT) as bob,
        provider(around.network, CAROL, "c:q8_0") as carol,
        running(around.discovery()),
    ):
        around.directory.list(CATALOGUE, carol)
        await around.host.connect(bob.addresses[0])
        with trio.fail_after(60):
            await around.teller.until_known(CAROL.peer_id, "c:q8_0")
        assert around.most_dials <= DIALS
        first = {peer: at for at, peer in reversed(around.dials)}
        await trio.sleep(WANTING_S + 60)
        for at, peer in around.dials:
            assert at == first[peer] or at >= first[peer] + DIAL_S + WANTING_S


async def test_no_more_are_held_than_allowed_and_the_useless_are_left_first(
    autojump_clock: MockClock, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD", 2)
    monkeypatch.setattr(module, "SPARE", 0)
    async with (
        around.network.open_host(BOB, ANY_PORT) as bob,
        around.network.open_host(CAROL, ANY_PORT) as carol,
        provider(around.network, DAVE, "d:q8_0") as dave,
        provider(around.network, identity("erin"), "e:q8_0") as erin,
        provider(around.network, identity("frank"), "f:q8_0") as frank,
        running(around.discovery()) as discovery,
    ):
        discovery.hold(bob.addresses[0])
        await trio.sleep(1)
        for name, host in (("c", carol), ("d", dave), ("e", erin)):
            around.directory.list(name, host)
            await discovery.seek(name)
        assert around.host.peers == {bob.peer_id, dave.peer_id, erin.peer_id}
        around.directory.list("f", frank)
        await discovery.seek("f")
        assert around.host.peers == {bob.peer_id, dave.peer_id, erin.peer_id}
        monkeypatch.setattr(module, "SPARE", 1)
        await trio.sleep(VAIN_S)
        await discovery.seek("f")
        assert around.host.peers == {bob.peer_id, dave.peer_id, erin.peer_id, frank.peer_id}


async def test_what_is_served_is_published_and_withdrawn(autojump_clock: MockClock, around: Around) -> None:
    async with running(around.discovery()):
        await trio.sleep(2)
        assert around.directory.provided == []
        around.teller.shelf.put("a:q8_0")
        await trio.sleep(2)
        assert around.directory.provided == [{CATALOGUE, "a:q8_0", "a"}]
        around.teller.shelf.load("a:q8_0", running=1)
        await trio.sleep(60)
        assert len(around.directory.provided) == 1
        around.teller.shelf.draining = True
        await trio.sleep(2)
        assert around.directory.provided[1:] == [set()]


# --- for a request --------------------------------------------------------------------------------


async def test_a_model_that_nobody_known_offers_is_sought_and_found(autojump_clock: MockClock, around: Around) -> None:
    async with provider(around.network, CAROL, "c:q8_0") as carol, running(around.discovery()) as discovery:
        around.directory.list("c", carol)
        with trio.fail_after(2):
            await discovery.seek("C:latest")
        assert around.teller.known == {CAROL.peer_id: ("c:q8_0",)}
        assert [name for _, name in around.directory.asked] == ["c"]
        await trio.sleep(1)
        assert around.remembered == [(CAROL.peer_id, carol.addresses)]


async def test_a_model_that_somebody_known_offers_is_looked_up_by_nobody(
    autojump_clock: MockClock, around: Around
) -> None:
    async with provider(around.network, CAROL, "c:q8_0") as carol, running(around.discovery()) as discovery:
        around.directory.hints = {}
        await around.host.connect(carol.addresses[0])
        await around.teller.until_known(CAROL.peer_id, "c:q8_0")
        began = trio.current_time()
        for name in ("c", "c:q8_0", "C"):
            await discovery.seek(name)
        assert trio.current_time() == began
        assert "c" not in [name for _, name in around.directory.asked]


async def test_seekers_of_the_same_share_a_look_up_that_outlives_each(
    autojump_clock: MockClock, around: Around
) -> None:
    async with (
        provider(around.network, CAROL, "c:q8_0") as carol,
        running(around.discovery()) as discovery,
        trio.open_nursery() as nursery,
    ):
        around.directory.list("c", carol)
        for _ in range(5):
            nursery.start_soon(discovery.seek, "c")
        with trio.move_on_after(0.1):
            await discovery.seek("c")
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        assert [name for _, name in around.directory.asked if name == "c"] == ["c"]
        assert CAROL.peer_id in around.teller.known


async def test_a_seeker_goes_on_when_one_provider_is_there_though_others_do_not_answer(
    autojump_clock: MockClock, around: Around
) -> None:
    around.directory.list_dead("c", DIALS - 1)
    async with provider(around.network, CAROL, "c:q8_0") as carol, running(around.discovery()) as discovery:
        around.directory.list("c", carol)
        with trio.fail_after(2):
            await discovery.seek("c")


async def test_what_is_sought_in_vain_is_not_sought_again_at_once(autojump_clock: MockClock, around: Around) -> None:
    async with running(around.discovery()) as discovery:
        with trio.fail_after(2):
            for _ in range(3):
                await discovery.seek("nothing")
        assert len(around.directory.asked) == 1
        await trio.sleep(VAIN_S)
        await discovery.seek("nothing")
        assert len(around.directory.asked) == 2


async def test_a_peer_that_offers_something_else_than_hinted_is_no_find(
    autojump_clock: MockClock, around: Around
) -> None:
    async with provider(around.network, CAROL, "other:q8_0") as carol, running(around.discovery()) as discovery:
        around.directory.list("c", carol)
        with trio.fail_after(5):
            await discovery.seek("c")
        assert around.teller.known == {CAROL.peer_id: ("other:q8_0",)}


async def test_only_so_much_is_sought_at_a_time(autojump_clock: MockClock, around: Around) -> None:
    around.directory.delay_s = 5.0
    async with running(around.discovery()) as discovery, trio.open_nursery() as nursery:
        for number in range(SEEKING):
            nursery.start_soon(discovery.seek, f"model-{number}")
        await trio.sleep(1)
        with trio.fail_after(0.1):
            await discovery.seek("one-more")
        assert len(around.directory.asked) == SEEKING


async def test_without_running_nothing_is_sought(autojump_clock: MockClock, around: Around) -> None:
    with trio.fail_after(0.1):
        await around.discovery().seek("c")
    assert around.directory.asked == []


async def test_seekers_are_let_go_when_it_ends(autojump_clock: MockClock, around: Around) -> None:
    around.directory.delay_s = 1000.0
    discovery, over = around.discovery(), trio.CancelScope()

    async def run() -> None:
        with over:
            await discovery.run()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(discovery.seek, "c")
            await trio.sleep(1)
            over.cancel()
    assert [name for _, name in around.directory.asked] == ["c"]


# --- with a directory -----------------------------------------------------------------------------


async def test_a_node_that_never_asked_before_finds_a_model_within_five_seconds(
    autojump_clock: MockClock, around: Around
) -> None:
    board = Board()
    async with (
        around.network.open_host(BOB, ANY_PORT) as bob,
        around.network.open_host(CAROL, ANY_PORT) as host,
        open_teller(CAROL, host) as carol,
        board.open_directory(around.host, "public") as ours,
        board.open_directory(host, "public") as theirs,
        running(around.discovery(directory=ours)) as discovery,
    ):
        await around.host.connect(bob.addresses[0])
        await host.connect(bob.addresses[0])
        there = Discovery(
            host, theirs, carol.book, carol.announcer, chance=lambda: 0.5, remember=around.remember
        )  # fmt: skip
        async with running(there):
            await trio.sleep(10)
            assert around.teller.known == {}
            carol.shelf.put("c:q8_0")
            with trio.fail_after(5):
                while CAROL.peer_id not in around.teller.known:
                    await discovery.seek("c")
                    await trio.sleep(0.1)


def test_names_are_those_that_are_offered_and_those_people_type() -> None:
    told = offer(BOB, model_offer("Qwen3-8B:Q4_K_M"), model_offer("plain"))
    assert names_of(told) == {CATALOGUE, "qwen3-8b:q4_k_m", "qwen3-8b", "plain"}
    assert names_of(offer(BOB)) == frozenset()
    assert [name_of(each) for each in ("Qwen3-8B", "qwen3-8b:Q4_K_M", "qwen3:8b")] == [
        "qwen3-8b",
        "qwen3-8b:q4_k_m",
        "qwen3-8b",
    ]
