"""What a node says of itself: true to its shelf, signed, in time, and never older than what it said before."""

from __future__ import annotations

import math

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.engine.pipe import Gauge
from meshnode.engine.slot import ModelState
from meshnode.identity import public_key_of, verify
from meshnode.mesh.announce import APART_S, LOAD_S, RENEW_S, TTL_S, Announcer, due, model_offer
from meshnode.mesh.estimate import FEATURES
from meshnode.wire.offer import LONGEST, Offer, checked, decode_offer
from tests.kit import offers as kit
from tests.kit.offers import NETWORK, PRICES
from tests.kit.peers import ALICE
from tests.kit.tellers import INFO, Shelf, announcer_of, card

HERE = ("/ip4/10.0.0.1/tcp/9338",)


def models_of(announcer: Announcer) -> list[str]:
    """The ids offered."""
    return [model.id for model in announcer.offer.models]


# --- what it says ---------------------------------------------------------------------------------


async def test_it_says_what_is_so_and_its_peer_signed_it(autojump_clock: MockClock) -> None:
    shelf = Shelf("a:q8_0")
    announcer = announcer_of(ALICE, shelf, lambda: HERE)
    passed = announcer.current()
    told = checked(passed.offer, NETWORK, verify, public_key_of)
    assert told == announcer.offer
    assert (told.peer, told.ledger, told.ttl_s, told.addresses) == (ALICE.peer_id, ALICE.ledger_public, TTL_S, HERE)
    assert (told.privacy, told.max_body, told.software, passed.age_ms) == (("standard",), 1 << 20, "test", 0)
    (model,) = told.models
    assert (model.id, model.state, model.weights, model.context) == ("a:q8_0", "unloaded", b"\xab" * 32, 2048)
    assert (model.kinds, model.kv_type, model.prices, model.modalities) == (
        ("generate", "embed"),
        "f16",
        PRICES,
        ("text",),
    )
    assert (model.slots, model.free, model.queue, model.decode_tps) == (16, 16, 0, 0.0)
    await trio.sleep(2)
    assert announcer.current().age_ms == 2000


def test_a_loaded_model_is_told_as_its_engine_is() -> None:
    state = ModelState(id=card("a").id, state="ready", info=INFO, gauge=Gauge(running=3, waiting=2))
    told = model_offer(card("a"), state, prices=PRICES, context=2048, slots=16)
    assert (told.context, told.slots, told.free, told.queue, told.decode_tps) == (4096, 4, 1, 2, 50.0)
    assert (told.template, told.first_token_ms, told.features) == (b"\xcd" * 32, 0.0, FEATURES)


def test_what_is_not_known_is_left_out_and_what_is_too_long_is_cut() -> None:
    strange = card("a", sha256="", license="x" * 900, family="y" * 65, quantisation="z" * 70)
    info = msgspec.structs.replace(INFO, decode_tps=math.inf, template_sha256="")
    told = model_offer(strange, ModelState(id=strange.id, info=info), prices=PRICES, context=1, slots=1)
    assert (told.weights, told.template, told.decode_tps) == (b"", b"", 0.0)
    assert (len(told.license), len(told.family), len(told.quantisation)) == (64, 64, 64)
    decode_offer(msgspec.msgpack.encode(kit.offer(ALICE, told)))


async def test_failed_and_private_models_are_left_out_and_loaded_ones_come_first(autojump_clock: MockClock) -> None:
    shelf = Shelf("a", "b", "c", "d")
    shelf.states["a"] = ModelState(id=card("a").id, state="failed", reason="broken")
    shelf.private.add("b")
    shelf.load("d")
    assert models_of(announcer_of(ALICE, shelf)) == ["d", "c"]


async def test_a_node_that_drains_or_only_asks_offers_no_model(autojump_clock: MockClock) -> None:
    assert models_of(announcer_of(ALICE, Shelf())) == []
    shelf = Shelf("a")
    announcer = announcer_of(ALICE, shelf)
    assert models_of(announcer) == ["a"]
    shelf.draining = True
    await trio.sleep(APART_S)
    announcer.look()
    assert models_of(announcer) == []


async def test_more_than_an_offer_holds_is_left_out(autojump_clock: MockClock) -> None:
    shelf = Shelf(*(f"model-{number}:{'q' * 150}" for number in range(100)))
    announcer = announcer_of(ALICE, shelf, lambda: ("", *(f"/ip4/10.0.0.{n}/tcp/1" for n in range(20)), "x" * 201))
    told = checked(announcer.current().offer, NETWORK, verify, public_key_of)
    assert len(told.models) == 64
    assert len(told.addresses) == 8
    shelf.cards = [card(f"model-{n}:{'é' * 180}", family="é" * 64, license="é" * 64) for n in range(64)]
    await trio.sleep(APART_S)
    announcer.look()
    body = announcer.current().offer.body
    assert 20 < len(decode_offer(body).models) < 64
    assert LONGEST - 1500 < len(body) <= LONGEST


# --- when it says it ------------------------------------------------------------------------------


def test_what_matters_is_told_at_once_and_load_seldom() -> None:
    plain = kit.offer(ALICE, kit.model_offer())
    busy = kit.offer(ALICE, kit.model_offer(free=3))
    loading = kit.offer(ALICE, kit.model_offer(state="loading"))
    assert [due(plain, loading, age) for age in (0.0, 0.4, APART_S)] == [False, False, True]
    assert [due(plain, busy, age) for age in (APART_S, 4.9, LOAD_S)] == [False, False, True]
    assert [due(plain, plain, age) for age in (LOAD_S, 44.9, RENEW_S)] == [False, False, True]


async def test_it_signs_when_that_is_due(autojump_clock: MockClock) -> None:
    shelf = Shelf("a")
    announcer = announcer_of(ALICE, shelf)
    signed: list[tuple[float, Offer]] = []
    began = trio.current_time()
    announcer.listen(lambda: signed.append((trio.current_time() - began, announcer.offer)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcer.run)
        await trio.sleep(10.2)
        shelf.load("a")
        await trio.sleep(5)
        shelf.load("a", running=1)
        await trio.sleep(1)
        shelf.load("a", running=2)
        await trio.sleep(5)
        shelf.prices = msgspec.structs.replace(PRICES, output_uc=9)
        await trio.sleep(50)
        nursery.cancel_scope.cancel()
    times = [at for at, _ in signed]
    assert times == pytest.approx([0, 10.5, 15.5, 20.5, 21.5, 66.5])
    issues = [offer.issued_ms for _, offer in signed]
    assert issues == sorted(set(issues))


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=2, max_size=10))
def test_a_later_offer_has_a_later_issue_wherever_the_wall_clock_goes(jumps: list[float]) -> None:
    async def run() -> list[int]:
        wall = 1e9
        announcer = announcer_of(ALICE, Shelf(), clock=lambda: wall)
        issues = [announcer.offer.issued_ms]
        for jump in jumps:
            wall += jump
            clock.jump(RENEW_S)
            announcer.look()
            issues.append(announcer.offer.issued_ms)
        return issues

    clock = MockClock()
    issues = trio.run(run, clock=clock)
    assert issues == sorted(set(issues))


async def test_it_looks_at_once_when_it_is_told_to(autojump_clock: MockClock) -> None:
    shelf = Shelf("a")
    announcer = announcer_of(ALICE, shelf)
    told: list[list[str]] = []
    announcer.listen(lambda: told.append(models_of(announcer)))
    announcer.look()
    shelf.put("b")
    announcer.look()
    assert told == [["a"]]
    await trio.sleep(APART_S)
    announcer.look()
    assert told == [["a"], ["a", "b"]]
