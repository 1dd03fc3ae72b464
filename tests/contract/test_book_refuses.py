"""Receipts that are not exactly right: refused by the book on every database, and nothing changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from meshnode.errors import ProtocolViolation
from meshnode.ledger.book import MOST_UNSIGNED_UC, NEW_UNSIGNED, Totals
from meshnode.wire.canonical import encode
from meshnode.wire.receipt import SignedReceipt, decode_signed, encode_signed
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.receipts import (
    SOME,
    C,
    P,
    Two,
    countersigned,
    dump,
    earned,
    meeting,
    receipt,
    sealed,
    tick,
    times,
)

SMALL_ORDER = bytes([1]) + bytes(31)
STORED = receipt(3, times(3))
DUE = times(4)
INVALID: dict[str, SignedReceipt] = {
    "unsigned": SignedReceipt(encode(receipt(4, DUE)), bytes(64)),
    "signed by another": tick(receipt(4, DUE), CAROL),
    "half of its signatures": SignedReceipt(encode(receipt(4, DUE)), tick(receipt(4, DUE)).sig_c, bytes(64)),
    "countersigned by another": countersigned(tick(receipt(4, DUE)), CAROL),
    "a key that signs everything": SignedReceipt(
        encode(receipt(4, DUE, consumer=SMALL_ORDER)), SMALL_ORDER + bytes(32)
    ),
    "another consumer": tick(receipt(4, DUE, consumer=CAROL.ledger_public), CAROL),
    "another provider": tick(receipt(4, DUE, provider=CAROL.ledger_public)),
    "its own provider": tick(receipt(4, DUE, provider=C)),
    "another network": tick(receipt(4, DUE, network=bytes(8))),
    "number zero": tick(receipt(0, SOME, chan=8)),
    "a longer encoding": sealed(encode(receipt(4, DUE)).replace(b"\x07\x04", b"\x07\xcc\x04")),
    "true for one": sealed(encode(receipt(4, DUE, n_req=True))),
    "a float for a number": sealed(encode(receipt(4, DUE, cum_uc=4000.0))),
    "more behind it": sealed(encode(receipt(4, DUE)) + b"\xc0"),
    "nothing": sealed(b""),
}
UNPAID = {
    "more than was delivered": tick(receipt(4, times(5))),
    "less than was delivered": tick(receipt(4, Totals(uc=3500, prompt=40, output=128, requests=4))),
    "other tokens than were delivered": tick(receipt(4, Totals(uc=4000, prompt=40, output=127, requests=4))),
    "rolled back": tick(receipt(2, times(2))),
    "rolled back under a new number": tick(receipt(4, times(2))),
    "a fork": tick(receipt(3, DUE)),
    "what is stored": tick(STORED),
    "a new channel that starts with a debt": tick(receipt(1, times(2), chan=8)),
}


@pytest.fixture(params=["threaded", "inline"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Two]:
    async with meeting(request.param, tmp_path) as met:
        yield met


@pytest.mark.parametrize("name", [*INVALID, *UNPAID])
async def test_a_tick_that_is_not_exactly_right_changes_nothing(two: Two, name: str) -> None:
    for seq in (1, 2, 3):
        await two.takes.take(tick(receipt(seq, times(seq))), SOME)
    before = await two.bobs.read(dump)
    with pytest.raises(ProtocolViolation):
        await two.takes.take({**INVALID, **UNPAID}[name], SOME)
    assert await two.bobs.read(dump) == before
    assert two.takes.total == times(3)
    await two.takes.take(tick(receipt(4, DUE)), SOME)


async def test_the_receipt_just_stored_may_come_again_and_pays_nothing(two: Two) -> None:
    await two.takes.take(tick(receipt()), SOME)
    before = await two.bobs.read(dump)
    await two.takes.take(tick(receipt()), Totals())
    assert await two.bobs.read(dump) == before
    with pytest.raises(ProtocolViolation, match="nothing"):
        await two.takes.take(tick(receipt(2)), Totals())


@pytest.mark.parametrize("name", INVALID)
async def test_one_invalid_receipt_among_those_shown_spoils_them_all(two: Two, name: str) -> None:
    shown = [tick(receipt(9, times(9), chan=9)), INVALID[name]]
    before = await two.alices.read(dump), await two.bobs.read(dump)
    with pytest.raises(ProtocolViolation):
        await two.bob.provide(C, ALICE.peer_id, shown)
    with pytest.raises(ProtocolViolation):
        await two.alice.consume(P, BOB.peer_id, shown)
    assert (await two.alices.read(dump), await two.bobs.read(dump)) == before


@pytest.mark.parametrize(
    "shown",
    [
        [tick(receipt(3, DUE))],
        [tick(receipt(4, times(2)))],
        [tick(receipt(2, DUE))],
        [tick(receipt(4, Totals(uc=3000 + MOST_UNSIGNED_UC + 1, prompt=99, output=99, requests=9)))],
        [tick(receipt(1, Totals(uc=MOST_UNSIGNED_UC + 1), chan=9))],
    ],
)
async def test_a_consumer_that_contradicts_itself_or_brags_is_not_believed(
    two: Two, shown: Sequence[SignedReceipt]
) -> None:
    await two.bob.provide(C, ALICE.peer_id, [tick(STORED)])
    before = await two.bobs.read(dump)
    with pytest.raises(ProtocolViolation):
        await two.bob.provide(C, ALICE.peer_id, shown)
    assert await two.bobs.read(dump) == before


@pytest.mark.parametrize("order", [1, -1])
async def test_what_we_countersigned_ourselves_is_believed_whatever_it_is(two: Two, order: int) -> None:
    much = Totals(uc=5 * MOST_UNSIGNED_UC, prompt=1, output=1, requests=1)
    newer = tick(receipt(6, much.plus(SOME)))
    await two.bob.provide(C, ALICE.peer_id, [newer, countersigned(tick(receipt(5, much)))][::order])
    assert await earned(two.bob) == (much.uc + 1000, 1000)


@pytest.mark.parametrize("name", [*INVALID, "not countersigned"])
async def test_a_countersignature_that_is_not_exactly_right_changes_nothing(two: Two, name: str) -> None:
    mine = await two.pays.pay(SOME)
    before = await two.alices.read(dump)
    with pytest.raises(ProtocolViolation):
        await two.pays.confirm({**INVALID, "not countersigned": mine}[name])
    assert await two.alices.read(dump) == before
    await two.pays.confirm(countersigned(mine))


async def test_what_is_stored_is_what_travels(two: Two) -> None:
    mine = await two.pays.pay(SOME)
    assert decode_signed(encode_signed(mine)) == mine
    await two.pays.confirm(countersigned(mine))
    [shown] = await two.alice.newest("consumer", P)
    assert decode_signed(encode_signed(shown)) == countersigned(mine)


async def test_an_error_says_nothing_but_numbers(two: Two) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        await two.takes.take(tick(receipt(1, times(2))), SOME)
    assert caught.value.message == "a tick states 2000 µc in all, and 1000 are due."


async def test_few_unknown_channels_are_taken_up_at_a_time(two: Two) -> None:
    shown = [tick(receipt(1, SOME, chan=chan)) for chan in range(10, 20)]
    for opened in range(1, 4):
        await two.bob.provide(C, ALICE.peer_id, shown)
        assert len((await two.bob.accounts()).channels) == NEW_UNSIGNED * opened
