"""Serving: honest callers, callers who do not pay, callers who break the protocol. Bob serves, alice is a puppet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.domain import Message, Role, TextPart
from meshnode.errors import DiskFull, PeerError
from meshnode.events import Failed, Finished, Heartbeat, Prefilling, Started, TextDelta, decoded_tokens
from meshnode.mesh.serve import COUNTERSIGN_AT_ONCE, TROUBLED_S
from meshnode.mesh.settle import SLICE, WINDOW
from meshnode.wire import messages as m
from meshnode.wire.frames import pack
from meshnode.wire.receipt import decode_signed
from tests.kit.offers import NETWORK, PRICES, offer, terms
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.puppet import Puppet, calling
from tests.kit.receipts import receipt, tick
from tests.kit.requests import endless, prompt
from tests.kit.serving import REQUEST, Scene, begun, closes, gather, open_serving


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    """On a virtual clock."""
    async with open_serving() as opened:
        yield opened


async def test_on_trust_a_stranger_gets_one_window_and_no_more(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        with trio.move_on_after(8):
            got = 0
            while True:
                for event in await gather(puppet, lambda _: True):
                    got += decoded_tokens(event)
        assert WINDOW - 16 <= got <= WINDOW
        mark = m.Mark(1, 6, 0, got)
        await puppet.say(puppet.tick([mark], 6 * 10 + got * 80, prompt=6, output=got, requests=1))
        more = 0
        with trio.move_on_after(8):
            while True:
                more += sum(map(decoded_tokens, await gather(puppet, lambda _: True)))
        assert WINDOW - 16 <= more <= WINDOW
    assert not scene.bob.violations


async def test_a_long_prompt_is_computed_slice_by_slice_as_it_is_paid(autojump_clock: MockClock, scene: Scene) -> None:
    request = prompt("x" * 6000, model="a", tokens=3)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, request)))
        assert await puppet.hear() == m.Accept(1)
        await puppet.say(puppet.body(1, request))
        done = 0
        with trio.move_on_after(8):
            while True:
                for event in await gather(puppet, lambda _: True):
                    assert not isinstance(event, TextDelta)
                    done = event.done if isinstance(event, Prefilling) else done
        assert done == SLICE
        await puppet.say(puppet.tick([m.Mark(1, SLICE, 0, 0)], SLICE * 10, prompt=SLICE, output=0, requests=1))
        events = await gather(puppet, closes)
        assert isinstance(events[-1], Finished)
    assert not scene.bob.violations


async def test_all_that_was_paid_is_countersigned(autojump_clock: MockClock, scene: Scene) -> None:
    short = endless("hi", model="a", tokens=10)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, short)))
        assert await puppet.hear() == m.Accept(1)
        await puppet.say(puppet.body(1, short))
        events = await gather(puppet, closes)
        got = sum(map(decoded_tokens, events))
        cost = max(2000, 3 * 10 + got * 80)
        await puppet.say(puppet.tick([m.Mark(1, 3, 0, got)], cost, prompt=3, output=got, requests=1))
        receipt = await puppet.hear()
        assert isinstance(receipt, m.Countersigned)
        assert decode_signed(receipt.receipt).confirmed
    assert (await scene.bob.book.accounts()).earned == cost


async def test_many_channels_left_unsigned_are_countersigned_a_few_at_a_time(
    autojump_clock: MockClock, scene: Scene
) -> None:
    for chan in range(1000, 1000 + 2 * COUNTERSIGN_AT_ONCE):
        shown = tick(receipt(network=NETWORK, chan=chan))
        await scene.bob.book.provide(ALICE.ledger_public, ALICE.peer_id, [shown])
    short = endless("hi", model="a", tokens=10)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, short)))
        greeted = [await puppet.hear() for _ in range(COUNTERSIGN_AT_ONCE + 1)]
        assert greeted.count(m.Accept(1)) == 1
        assert sum(isinstance(message, m.Countersigned) for message in greeted) == COUNTERSIGN_AT_ONCE
        await puppet.say(puppet.body(1, short))
        got = sum(map(decoded_tokens, await gather(puppet, closes)))
        cost = max(2000, 3 * 10 + got * 80)
        await puppet.say(puppet.tick([m.Mark(1, 3, 0, got)], cost, prompt=3, output=got, requests=1))
        for _ in range(COUNTERSIGN_AT_ONCE):
            assert isinstance(await puppet.hear(), m.Countersigned)
        with trio.move_on_after(4) as silence:
            await puppet.hear()
        assert silence.cancelled_caught


async def test_a_model_withdrawn_between_offer_and_ask_is_refused(autojump_clock: MockClock, scene: Scene) -> None:
    scene.bob.offered = offer(BOB)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, REQUEST)))
        refused = await puppet.hear()
        assert isinstance(refused, m.Refuse)
        assert refused.code == "draining"


async def test_a_body_that_is_not_the_one_asked_for_ends_its_request_only(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        asked = terms(BOB, REQUEST)
        await puppet.say(puppet.ask(1, asked))
        assert await puppet.hear() == m.Accept(1)
        await puppet.say(m.Body(1, bytes(asked.body_bytes), last=True))
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert closing.code == "protocol_violation"
        await begun(puppet, 2)
        assert isinstance((await gather(puppet, lambda event: isinstance(event, Started)))[-1], Started)


async def test_an_unknown_field_is_refused_by_name(autojump_clock: MockClock, scene: Scene) -> None:
    from meshnode.wire.body import body_of, sha256
    from meshnode.wire.canonical import encode

    data = encode(msgspec.to_builtins(body_of(REQUEST), builtin_types=(bytes,)) | {"n_discard": 5})
    asked = msgspec.structs.replace(terms(BOB, REQUEST), body_bytes=len(data), body_sha256=sha256(data))
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, asked))
        assert await puppet.hear() == m.Accept(1)
        await puppet.say(m.Body(1, data, last=True))
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert (closing.code, closing.param) == ("unknown_parameter", "n_discard")


async def test_who_waits_hears_that_it_is_not_forgotten(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        events = await gather(puppet, lambda event: isinstance(event, Heartbeat))
        assert sum(map(decoded_tokens, events)) <= WINDOW


async def test_cancelling_frees_the_place_and_closes_the_request(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        await gather(puppet, lambda event: isinstance(event, TextDelta))
        await puppet.say(m.Cancel(1))
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert closing.code == "cancelled"
        assert scene.bob.places.held == 0
        engine = await scene.bob.stable.until_alive("a")
        await trio.sleep(0.05)
        assert engine.gauge.running == 0


async def test_cancelling_before_the_body_closes_it_too(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, REQUEST)), m.Cancel(1))
        assert await puppet.hear() == m.Accept(1)
        assert isinstance((await gather(puppet, closes))[-1], Failed)
        assert scene.bob.places.held == 0


async def test_a_caller_that_is_gone_leaves_nothing_running(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        await gather(puppet, lambda event: isinstance(event, TextDelta))
        await scene.alice.disconnect(BOB.peer_id)
    await trio.sleep(0.1)
    assert scene.bob.places.held == 0
    assert scene.bob.provider is not None
    assert scene.bob.provider.bodies == 0
    assert (await scene.bob.stable.until_alive("a")).gauge.running == 0


async def test_a_provider_that_cannot_keep_its_books_serves_nobody_for_a_while(
    autojump_clock: MockClock, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise DiskFull("no room at /home/me.")

    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        await gather(puppet, lambda event: isinstance(event, TextDelta))
        with monkeypatch.context() as patched:
            patched.setattr(scene.bob.database, "write", full)
            mark = m.Mark(1, 6, 0, 1)
            await puppet.say(puppet.tick([mark], 6 * 10 + 80, prompt=6, output=1, requests=1))
            with structlog.testing.capture_logs() as logs:
                while not isinstance(bye := await puppet.hear(), m.Bye):
                    pass
                await trio.sleep(1)
    assert bye == m.Bye("stream_reset", "this provider cannot keep its books now.")
    assert [entry["event"] for entry in logs].count("serving_paused") == 1
    assert "stream_handler_failed" not in [entry["event"] for entry in logs]
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, REQUEST)))
        refused = await puppet.hear()
        assert isinstance(refused, m.Refuse)
        assert (refused.code, refused.retry_after_ms) == ("overloaded", 30_000)
        await trio.sleep(TROUBLED_S)
        await puppet.say(puppet.ask(2, terms(BOB, REQUEST)))
        assert await puppet.hear() == m.Accept(2)


async def test_a_newer_session_ends_the_older(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as older:
        await begun(older)
        async with calling(ALICE, scene.alice, BOB.peer_id) as newer:
            await newer.greet()
            with pytest.raises((PeerError, EOFError)):
                await gather(older, closes)
            await newer.say(newer.ask(1, terms(BOB, REQUEST)))
            assert await newer.hear() == m.Accept(1)


# --- what is not allowed ------------------------------------------------------------------------


def late(puppet: Puppet, marks: list[m.Mark], uc: int, output: int) -> m.Tick:
    """A tick for request 1 whose answer is under way."""
    return puppet.tick(marks, uc, prompt=6, output=output, requests=1)


HOSTILE: list[tuple[str, Callable[[Puppet], m.Message | bytes], str]] = [
    ("garbage", lambda _: b"\xc1" * 64, "frame|message"),
    ("an oversized frame", lambda _: b"\xff\xff\xff\xff", "frame of 4294967295"),
    ("a second hello", lambda p: m.Hello(1, b"x" * 8, p.identity.ledger_public, b"n" * 16), "out of order"),
    ("a provider's message", lambda _: m.Accept(1), "out of order"),
    ("a body never asked for", lambda _: m.Body(9, b"x", last=True), "unknown"),
    ("a number used twice", lambda p: p.ask(1, terms(BOB, REQUEST)), "request 1 was asked after"),
    ("an ask signed by nobody", lambda p: m.Ask(2, p.ask(2, terms(BOB, REQUEST)).terms, bytes(64), 1), "not signed"),
    ("an ask for another peer", lambda p: p.ask(2, terms(CAROL, REQUEST)), "another network or peer"),
    ("more than was delivered", lambda p: late(p, [m.Mark(1, 6, 0, 500)], 40_060, 500), "more than was delivered"),
    ("a request never asked", lambda p: late(p, [m.Mark(5, 6, 0, 1)], 2000, 1), "owes nothing"),
    ("less than it says", lambda p: late(p, [m.Mark(1, 6, 0, 8)], 1, 8), ""),
    ("no receipt at all", lambda _: m.Tick(b"", (m.Mark(1, 6, 0, 8),)), ""),
    ("half a signature", lambda _: m.Tick(b"\x93\xc4\x00\xc4\x01x\xc4\x00"), ""),
]


@pytest.mark.parametrize(("say", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_who_breaks_the_protocol_is_cut_off_and_remembered(
    autojump_clock: MockClock, scene: Scene, say: Callable[[Puppet], m.Message | bytes], reason: str
) -> None:
    async with (
        calling(ALICE, scene.alice, BOB.peer_id) as puppet,
        calling(CAROL, scene.carol, BOB.peer_id) as honest,
    ):
        await begun(puppet)
        await begun(honest)
        await gather(puppet, lambda event: isinstance(event, TextDelta))
        said = say(puppet)
        if isinstance(said, bytes):
            await puppet.stream.write(pack(said, limit=m.FRAME) if said[0] != 0xFF else said)
        else:
            await puppet.say(said)
        with pytest.raises((PeerError, EOFError)):
            await gather(puppet, lambda _: False)
        [(peer, told)] = scene.bob.violations
        assert peer == ALICE.peer_id
        assert not reason or any(part in told for part in reason.split("|")), told
        assert scene.bob.places.held == 1  # the other peer goes on
        await gather(honest, lambda event: decoded_tokens(event) > 0)
    assert (await scene.bob.book.accounts()).earned == 0


@pytest.mark.parametrize("network", [b"elsewher"])
async def test_another_network_is_turned_away(autojump_clock: MockClock, scene: Scene, network: bytes) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        with pytest.raises((PeerError, EOFError, AssertionError)):
            await puppet.greet(network=network)
    await trio.sleep(1)
    assert [reason for _, reason in scene.bob.violations] == ["is of another network."]


async def test_half_a_frame_and_silence_ends_the_session(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.stream.write(b"\x00\x00\x01")
        with pytest.raises((PeerError, EOFError)):
            await gather(puppet, lambda _: False)
    assert not scene.bob.violations  # it may have fallen asleep


async def test_one_byte_a_second_is_no_introduction(autojump_clock: MockClock, scene: Scene) -> None:
    async def trickle(puppet: Puppet) -> None:
        for byte in pack(b"x" * 100, limit=m.FRAME):
            await puppet.stream.write(bytes([byte]))
            await trio.sleep(1)

    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        with pytest.raises(PeerError):
            await trickle(puppet)
    assert not scene.bob.violations


def test_the_prices_are_those_of_the_tests_arithmetic() -> None:
    assert (PRICES.input_uc, PRICES.output_uc, PRICES.request_uc) == (10, 80, 2000)
    assert Message(role=Role.USER, parts=(TextPart("x"),)).parts
