"""Asking: providers that refuse, vanish, break the order or do not close. Alice asks, bob is a puppet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import MeshnodeError, Overloaded, PeerError, ProtocolViolation, StreamReset, Unreachable
from meshnode.events import (
    Failed,
    decoded_tokens,
)
from meshnode.mesh.asker import PeerHung, PeerRefused
from meshnode.mesh.talk import ACCEPT_S, HANG_S
from meshnode.wire import messages as m
from meshnode.wire.receipt import SignedReceipt, content, decode_signed, encode_signed, provider_payload
from tests.kit.offers import NETWORK
from tests.kit.peers import ALICE, BOB
from tests.kit.puppet import Answering, Puppet
from tests.kit.receipts import countersigned, receipt, tick
from tests.kit.scenes import Scene, open_scene, telling, words

MANY = 100
"""More countersignatures than a session used to have room for."""


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    """On a virtual clock."""
    async with open_scene() as opened:
        yield opened


async def test_the_ask_is_signed_and_the_body_comes_only_once_it_is_accepted(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.whole)
        puppet = await scene.bob.session()
        ask = await puppet.hear()
        assert isinstance(ask, m.Ask)
        terms = m.decode_terms(ask.terms)
        assert (terms.provider, terms.model, terms.privacy, terms.max_tokens) == (BOB.peer_id, "a", "standard", 100)
        with trio.move_on_after(ACCEPT_S - 1) as silence:
            await puppet.hear()
        assert silence.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_refusal_says_why_and_names_others(autojump_clock: MockClock, scene: Scene) -> None:
    async def refuse() -> None:
        puppet = await scene.bob.session()
        ask = await puppet.hear()
        assert isinstance(ask, m.Ask)
        await puppet.say(m.Refuse(ask.number, "overloaded", "full", 1500, (ALICE.peer_id,)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(PeerRefused, match="full") as refused:
            await scene.whole()
    assert (refused.value.refusal, refused.value.retry_after_s) == ("overloaded", 1.5)
    assert refused.value.alternates == (ALICE.peer_id,)
    assert not scene.alice.violations


async def test_a_lost_provider_ends_the_answer_with_what_came(autojump_clock: MockClock, scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, *words(3))
        async with scene.asking() as events:
            got = [await anext(events) for _ in range(4)]
            scene.network.cut(ALICE.peer_id, BOB.peer_id)
            got += [event async for event in events]
    assert sum(map(decoded_tokens, got)) == 3
    assert isinstance(got[-1], Failed)
    assert got[-1].code == "peer_unreachable"


async def test_what_came_is_paid_for_within_two_seconds(autojump_clock: MockClock, scene: Scene) -> None:
    ticks: list[m.Tick] = []

    async def provide() -> None:
        puppet = await telling(scene, *words(5))
        while True:
            message = await puppet.hear()
            if isinstance(message, m.Tick):
                ticks.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking() as events:
            for _ in range(6):
                await anext(events)
            await trio.sleep(1.5)
            assert not ticks
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert ticks[0].marks == (m.Mark(1, 6, 0, 5),)
    receipt = content(decode_signed(ticks[0].receipt))
    assert (receipt.cum_uc, receipt.cum_in, receipt.cum_out, receipt.n_req) == (2000, 6, 5, 1)
    assert (await scene.alice.book.accounts()).spent == 2000


async def test_a_tick_is_stored_before_it_is_sent(autojump_clock: MockClock, scene: Scene) -> None:
    spent: list[int] = []

    async def provide() -> None:
        puppet = await telling(scene, *words(40))
        while not isinstance(await puppet.hear(), m.Tick):
            pass
        spent.append((await scene.alice.book.accounts()).spent)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking() as events:
            async for _ in events:
                if spent:
                    break
                if trio.current_time() > 100:
                    break
        nursery.cancel_scope.cancel()
    assert spent
    assert spent[0] >= 32 * 80


async def test_leaving_cancels_there(autojump_clock: MockClock, scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        heard: list[m.Message] = []

        async def provide() -> None:
            puppet = await telling(scene, *words(2))
            while not isinstance(heard[-1] if heard else None, m.Cancel):
                heard.append(await puppet.hear())
            await puppet.say(m.Events(((1, Failed("cancelled", "it left")),)))

        nursery.start_soon(provide)
        async with scene.asking() as events:
            await anext(events)
    assert m.Cancel(1) in heard
    assert not scene.alice.violations


async def test_who_does_not_close_what_was_cancelled_is_cut_off(autojump_clock: MockClock, scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, *words(2))
        async with scene.asking() as events:
            await anext(events)
    await trio.sleep(2 * HANG_S)
    assert not scene.alice.violations  # it may sleep
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hung, scene)
        ask = await (await scene.bob.session()).hear()  # a new session
        assert isinstance(ask, m.Ask)
        assert ask.number == 1


HOSTILE: list[tuple[str, Callable[[Puppet], m.Message]]] = [
    ("an ask", lambda p: m.Ask(1, b"", bytes(64), 1)),
    ("an answer to what was never asked", lambda p: m.Accept(5)),
    ("a second acceptance", lambda p: m.Accept(1)),
    ("a receipt that nobody signed", lambda p: m.Countersigned(b"\x93\xc4\x00\xc4\x00\xc4\x00")),
]


@pytest.mark.parametrize("say", [row[1] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_a_provider_out_of_order_is_cut_off(
    autojump_clock: MockClock, scene: Scene, say: Callable[[Puppet], m.Message]
) -> None:
    async def provide() -> None:
        puppet = await telling(scene, *words(1))
        await puppet.say(say(puppet))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        got = await scene.whole()
    assert isinstance(got[-1], Failed)
    assert len(scene.alice.violations) == 1


async def test_countersignatures_of_many_channels_at_once_are_all_kept(autojump_clock: MockClock, scene: Scene) -> None:
    both = [countersigned(tick(receipt(network=NETWORK, chan=chan))) for chan in range(1000, 1000 + MANY)]

    async def provide() -> None:
        puppet = await telling(scene, *words(3))
        await puppet.say(*(m.Countersigned(encode_signed(signed)) for signed in both))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking() as events:
            for _ in range(4):
                await anext(events)
            await trio.sleep(4)
    channels = (await scene.alice.book.accounts()).channels
    assert sum(channel.confirmed_uc > 0 for channel in channels) == MANY


async def test_a_countersignature_is_kept(autojump_clock: MockClock, scene: Scene) -> None:
    async def provide() -> None:
        puppet = await telling(scene, *words(3))
        while not isinstance(tick := await puppet.hear(), m.Tick):
            pass
        signed = decode_signed(tick.receipt)
        both = SignedReceipt(
            signed.body, signed.sig_c, BOB.sign_for_ledger(provider_payload(signed.body, signed.sig_c))
        )
        await puppet.say(m.Countersigned(encode_signed(both)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking() as events:
            for _ in range(4):
                await anext(events)
            await trio.sleep(4)
            view = await scene.alice.book.accounts()
            assert (view.spent, view.spent_unconfirmed) == (2000, 0)
            nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_speak_the_protocol_is_no_provider(autojump_clock: MockClock, scene: Scene) -> None:
    scene.there.remove_handler(m.PROTOCOL)
    with pytest.raises(ProtocolViolation):
        await scene.whole()


async def test_a_peer_that_introduces_itself_as_another_is_cut_off(autojump_clock: MockClock, scene: Scene) -> None:
    Answering(ALICE, scene.there)  # alice's own ledger key
    with pytest.raises((PeerError, MeshnodeError)):
        await scene.whole()
    assert scene.alice.violations


async def test_two_requests_after_a_loss_open_one_new_session(autojump_clock: MockClock, scene: Scene) -> None:
    with pytest.raises(PeerHung):
        await scene.whole()
    scene.network.cut(ALICE.peer_id, BOB.peer_id)
    await scene.bob.session()
    await trio.sleep(0.1)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(_hung, scene)
        puppet = await scene.bob.session()
        asks = [await puppet.hear() for _ in range(2)]
        assert [ask.number for ask in asks if isinstance(ask, m.Ask)] == [1, 2]


async def test_many_asks_at_once_are_no_more_than_the_peer_lets_open(autojump_clock: MockClock, scene: Scene) -> None:
    """They are counted when they are made: none is on the wire before the writing task runs."""
    refused: list[Overloaded] = []

    async def ask() -> None:
        try:
            await scene.whole()
        except Overloaded as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(70):
            nursery.start_soon(ask)
        puppet = await scene.bob.session()  # which lets 64 be open
        asks = [await puppet.hear() for _ in range(64)]
        assert all(isinstance(ask, m.Ask) for ask in asks)
        assert [error.retry_after_s for error in refused] == [1.0] * 6
        nursery.cancel_scope.cancel()
    assert not scene.alice.violations


async def _hung(scene: Scene) -> None:
    with pytest.raises((PeerHung, Unreachable, StreamReset)):
        await scene.whole()
