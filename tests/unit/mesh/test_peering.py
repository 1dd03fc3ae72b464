"""Whole nodes meeting on a virtual clock: alice serves, bob joined alice, carol joined bob; dave comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.domain import ModelId, PeerId
from meshnode.errors import ConfigError, ModelNotFound, NobodyServes, NotFound, Unreachable
from meshnode.events import Failed, Finished, TextDelta
from meshnode.mesh import prune
from meshnode.net.memory import MemoryHost, open_network
from meshnode.storage.database import open_inline
from tests.kit.peerings import Node, Town
from tests.kit.peers import ALICE, BOB, CAROL, identity
from tests.kit.requests import endless, prompt

DAVE = identity("dave")


@pytest.fixture
async def town(autojump_clock: MockClock) -> AsyncIterator[Town]:
    """Where they live."""
    async with open_network(delay_s=0.002) as network:
        yield Town(network)


async def seen(fact: Callable[[], bool], within_s: float) -> float:
    """Seconds until a fact holds, of the virtual clock; fails after ``within_s``."""

    async def until() -> None:
        while not fact():  # noqa: ASYNC110  nobody tells of it
            await trio.sleep(0.05)

    began = trio.current_time()
    with trio.fail_after(within_s):
        await until()
    return trio.current_time() - began


async def balanced(consumer: Node, *providers: Node) -> bool:
    """Whether what one spent is what the others earned, all of it confirmed."""
    spent = await consumer.peering.credits()
    earned = [await provider.peering.credits() for provider in providers]
    return spent.spent == sum(each.earned for each in earned) and spent.spent_unconfirmed == 0


async def test_who_knows_only_a_friend_of_the_provider_uses_its_model(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(BOB, client_only=True, join=[alice.address]) as bob,
    ):
        await seen(lambda: bob.models() == {"m:q4": 1}, 5)
        async with town.open_node(CAROL, client_only=True, join=[bob.address]) as carol:
            await seen(lambda: carol.models() == {"m:q4": 1}, 5)
            events, route = await carol.ask(endless("hello", model="m", tokens=80))
            assert isinstance(events[-1], Finished)
            assert (route.kind, route.node) == ("peer", ALICE.peer_id)
            await trio.sleep(3)
            assert await balanced(carol, alice)
            [view] = [peer for peer in carol.peering.peers() if peer.peer == ALICE.peer_id]
            assert (view.successes, view.failures, view.models, view.connected) == (1, 0, ("m:q4",), True)
            assert view.decode_tps is not None


async def test_a_provider_that_comes_is_seen_and_one_that_dies_is_gone(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        async with town.open_node(DAVE, "m:q4", join=[alice.address]):
            await seen(lambda: carol.models() == {"m:q4": 2}, 5)
        await seen(lambda: carol.models() == {"m:q4": 1}, 15)


async def test_a_provider_that_dies_silently_is_replaced_unnoticed(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(DAVE, "m:q4", join=[alice.address]) as dave,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 2}, 10)
        for node in (alice, dave):  # whoever is asked first: it hangs
            town.network.part([node.host.peer_id], [CAROL.peer_id])
            events, route = await carol.ask(endless("hello", model="m", tokens=5))
            assert isinstance(events[-1], Finished)
            assert route.node != node.host.peer_id
            town.network.heal()
            await trio.sleep(90)


async def test_nobody_left_is_said_with_everybodys_reason(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        town.network.part([ALICE.peer_id], [CAROL.peer_id])
        with pytest.raises(NobodyServes, match="m:q4") as refused:
            await carol.ask(prompt(model="m"))
        assert refused.value.retry_after_s
        with pytest.raises(ModelNotFound):
            await carol.ask(prompt(model="other"))


async def test_a_provider_that_dies_in_mid_answer_is_an_error_that_says_so(
    autojump_clock: MockClock, town: Town
) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        async with carol.peering.dispatcher.open(endless("hello", model="m", tokens=500)) as answer:
            async for event in answer:
                if isinstance(event, TextDelta):
                    town.network.cut(ALICE.peer_id, CAROL.peer_id)
        assert isinstance(event, Failed)
        assert event.code == "peer_unreachable"


async def test_the_directory_finds_whom_no_friend_knows(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(BOB, client_only=True) as bob,
        town.open_node(DAVE, client_only=True) as dave,
        town.open_node(ALICE, "rare:q4", join=[bob.address]),
        town.open_node(CAROL, client_only=True, join=[dave.address]) as carol,
    ):
        await trio.sleep(0.5)  # alice is in the directory, and carol knows nobody who knows her
        assert carol.models() == {}
        events, route = await carol.ask(endless("hello", model="rare", tokens=5))
        assert isinstance(events[-1], Finished)
        assert route.node == ALICE.peer_id


async def test_the_first_request_after_a_start_waits_for_whom_was_joined(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await wait_all_tasks_blocked()
        assert carol.host.peers == frozenset(), "she is still dialling"
        events, route = await carol.ask(endless("hello", model="m", tokens=5))
        assert isinstance(events[-1], Finished)
        assert route.node == ALICE.peer_id


# --- membership ---------------------------------------------------------------------------------


async def test_who_joined_nothing_is_alone_until_it_joins(autojump_clock: MockClock, town: Town) -> None:
    async with (
        open_inline() as memory,
        town.open_node(ALICE, "m:q4") as alice,
    ):
        async with town.open_node(CAROL, client_only=True, is_open=False, database=memory) as carol:
            assert not carol.joined()
            with pytest.raises(ConfigError):
                await carol.peering.join("nonsense")
            with pytest.raises(Unreachable):
                await carol.peering.join(alice.address.replace(ALICE.peer_id, DAVE.peer_id))
            assert not carol.joined()
            assert await carol.peering.join(alice.address) == ALICE.peer_id
            assert carol.joined()
            await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        async with town.open_node(CAROL, client_only=True, is_open=False, database=memory) as carol:
            assert carol.joined()  # after a restart it is still a member
            await seen(lambda: carol.models() == {"m:q4": 1}, 5)
            assert await carol.peering.leave() >= 1
            assert not carol.joined()
        async with town.open_node(CAROL, client_only=True, is_open=False, database=memory) as carol:
            assert not carol.joined()
            await trio.sleep(30)
            assert carol.models() == {}


async def test_who_left_is_connected_to_nobody_it_had_called(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(DAVE, client_only=True, is_open=False) as dave,
        town.open_node(CAROL, client_only=True, is_open=False) as carol,
    ):
        await dave.peering.join(carol.address)  # on the same machine: let in as ever
        await carol.peering.join(alice.address)
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        assert await carol.peering.leave() >= 1
        await seen(lambda: carol.models() == {}, 5)
        await trio.sleep(60)
        assert carol.host.peers == {DAVE.peer_id}


async def test_remembered_peers_are_met_again_without_whom_was_joined(autojump_clock: MockClock, town: Town) -> None:
    async with open_inline() as memory, town.open_node(ALICE, "m:q4") as alice:
        async with (
            town.open_node(BOB, client_only=True, join=[alice.address]) as bob,
            town.open_node(CAROL, client_only=True, join=[bob.address], database=memory) as carol,
        ):
            joined = bob.address
            await seen(lambda: carol.models() == {"m:q4": 1}, 5)
            await carol.ask(prompt(model="m", tokens=2))
            await seen(lambda: ALICE.peer_id in carol.host.peers, 60)
            await trio.sleep(60)
        async with town.open_node(CAROL, client_only=True, join=[joined], database=memory) as carol:  # bob is gone
            await seen(lambda: carol.models() == {"m:q4": 1}, 10)


async def test_other_networks_have_nothing_to_do_with_us(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4", network="lab") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await trio.sleep(30)
        assert carol.models() == {}
        [view] = carol.peering.peers()
        assert (view.peer, view.connected) == (ALICE.peer_id, False)
        assert "another network" in view.last_failure


async def test_joining_another_network_says_so_and_is_forgotten(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4", network="lab") as alice,
        town.open_node(CAROL, client_only=True, is_open=False) as carol,
    ):
        with pytest.raises(Unreachable, match="lost at once"):
            await carol.peering.join(alice.address)
        assert not carol.joined()


async def test_a_private_network_keeps_others_out(autojump_clock: MockClock, town: Town) -> None:
    async with town.open_node(ALICE, "m:q4", psk=b"1" * 32) as alice:
        async with town.open_node(CAROL, client_only=True, is_open=False) as carol:
            with pytest.raises(Unreachable):
                await carol.peering.join(alice.address)
        async with town.open_node(DAVE, client_only=True, join=[alice.address], psk=b"1" * 32) as dave:
            await seen(lambda: dave.models() == {"m:q4": 1}, 5)


# --- lending ------------------------------------------------------------------------------------


async def test_a_model_kept_back_is_gone_from_others_at_once(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4", "n:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1, "n:q4": 1}, 5)
        assert not (await alice.peering.serve("m", False)).served
        await seen(lambda: carol.models() == {"n:q4": 1}, 5)
        assert [(each.id, each.served) for each in alice.peering.served()] == [("m:q4", False), ("n:q4", True)]
        await alice.peering.serve("m", True)
        await seen(lambda: carol.models() == {"m:q4": 1, "n:q4": 1}, 5)
        with pytest.raises(ModelNotFound):
            await alice.peering.serve("nothing", True)


async def test_a_node_that_drains_offers_nothing_and_is_paid(autojump_clock: MockClock, town: Town) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        await carol.ask(endless("hello", model="m", tokens=40))
        alice.draining.set()
        await alice.peering.drain()
        await trio.sleep(0.1)  # the last countersignature is on its way
        assert await balanced(carol, alice)
        await seen(lambda: carol.models() == {}, 5)


async def test_a_peer_that_breaks_the_protocol_is_banned_and_shown_with_its_reason(
    autojump_clock: MockClock, town: Town
) -> None:
    from meshnode.wire.frames import pack
    from tests.kit.puppet import calling

    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.network.open_host(DAVE, ("/ip4/127.0.0.1/tcp/0",)) as dave,
    ):
        await dave.connect(alice.address)
        async with calling(DAVE, dave, ALICE.peer_id) as puppet:
            await puppet.stream.write(pack(b"\xc1garbage", limit=100))
            await seen(lambda: DAVE.peer_id not in alice.host.peers, 10)
        with pytest.raises(Unreachable):
            await dave.connect(alice.address)
        [view] = alice.peering.peers()
        assert (view.peer, view.connected) == (DAVE.peer_id, False)
        assert "broke the protocol" in view.avoided
        assert view.last_failure.startswith("protocol_violation: ")


async def test_only_peers_of_no_use_are_parted_with(
    autojump_clock: MockClock, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was joined, has a session, or offers a model is of use; and nobody hangs up on who called him."""
    parted = set()
    disconnect = MemoryHost.disconnect

    async def noted(host: MemoryHost, peer: PeerId) -> None:
        parted.add((host.peer_id, peer))
        await disconnect(host, peer)

    monkeypatch.setattr(MemoryHost, "disconnect", noted)
    monkeypatch.setattr(prune, "KEPT", 0)
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(BOB, client_only=True) as bob,
        town.open_node(CAROL, client_only=True, join=[bob.address]) as carol,
        town.open_node(DAVE, client_only=True) as dave,
    ):
        for caller, called in ((carol, dave), (carol, alice), (alice, bob), (alice, dave)):
            await caller.host.connect(called.address)
        await seen(lambda: bob.models() == {"m:q4": 1}, 5)
        await bob.ask(endless("hello", model="m", tokens=40))
        await trio.sleep(2 * prune.IDLE_S)
        assert parted == {(CAROL.peer_id, DAVE.peer_id), (ALICE.peer_id, DAVE.peer_id)}


# --- what it cost -----------------------------------------------------------------------------------


async def test_an_answers_receipt_can_be_looked_up_until_both_have_signed(
    autojump_clock: MockClock, town: Town
) -> None:
    async with (
        town.open_node(ALICE, "m:q4") as alice,
        town.open_node(CAROL, client_only=True, join=[alice.address]) as carol,
    ):
        await seen(lambda: carol.models() == {"m:q4": 1}, 5)
        events, _ = await carol.ask(endless("hello", model="m", tokens=50))
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.charge is not None
        view = await carol.peering.receipt(last.charge.receipt)
        assert (view.peer, view.model, view.cost_uc) == (ALICE.peer_id, "m:q4", last.charge.cost_uc)
        assert view.output_tokens == 50
        assert view.state in ("owed", "signed")
        while view.state != "confirmed":
            await trio.sleep(0.1)
            view = await carol.peering.receipt(last.charge.receipt)
        assert view.paid_uc == view.cost_uc == (await carol.peering.credits()).spent
        with pytest.raises(NotFound, match="no such receipt"):
            await carol.peering.receipt("rcpt_0")
        assert carol.peering.pace(ModelId("m:q4")).answers == 1
        [rung] = carol.peering.explain(prompt(model="m"))
        assert [candidate.node for candidate in rung.candidates] == [ALICE.peer_id]
        [unknown] = carol.peering.explain(prompt(model="n"))
        assert (unknown.code, unknown.candidates) == ("model_not_found", ())


async def test_an_answer_of_this_node_costs_nothing(autojump_clock: MockClock, town: Town) -> None:
    async with town.open_node(ALICE, "m:q4") as alice:
        events, route = await alice.ask(endless("hello", model="fast", tokens=5))
        assert (route.kind, route.reason) == ("local", "fast: here, to be loaded first")
        assert isinstance(events[-1], Finished)
        assert events[-1].charge is None
