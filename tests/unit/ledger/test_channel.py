"""The table of channels: what it holds, and that nothing in it ever goes back, whoever writes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from meshnode.domain import PeerId
from meshnode.errors import Conflict
from meshnode.ledger import channel as rows
from meshnode.ledger.channel import Channel, Pair, Totals
from meshnode.storage.database import Connection, Database, open_inline
from meshnode.wire.receipt import SignedReceipt, content
from tests.kit.receipts import C, P, countersigned, receipt, tick, times

PAIR = Pair("provider", C, P)
PEER = PeerId("12D3KooWx")
SIX = [tick(receipt(seq, times(seq))) for seq in (1, 2, 3, 5, 8, 13)]


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_inline() as opened:
        yield opened


def storing(signed: SignedReceipt, peer: PeerId = PEER) -> Callable[[Connection], bool]:
    return lambda connection: rows.store(connection, "provider", signed, content(signed), peer)


async def found(database: Database, chan: int = 7) -> Channel:
    row = await database.read(lambda connection: rows.find(connection, PAIR, chan))
    assert row is not None
    return row


async def test_the_newest_of_six_receipts_wins_in_every_order() -> None:
    for order in itertools.permutations(SIX):
        async with open_inline() as database:
            before = Totals()
            for signed in order:
                await database.write(storing(signed))
                now = (await found(database)).total
                assert now.uc >= before.uc
                before = now
            row = await found(database)
            assert (row.seq, row.total, row.newest) == (13, times(13), SIX[-1])


@pytest.mark.parametrize("field", ["cum_uc", "cum_in", "cum_out", "n_req"])
async def test_a_later_receipt_with_any_lower_total_is_not_stored(database: Database, field: str) -> None:
    assert await database.write(storing(SIX[1]))
    lower = content(SIX[2])
    fallen = tick(receipt(3, times(3), **{field: getattr(content(SIX[1]), field) - 1}))
    assert not await database.write(storing(fallen))
    assert (await found(database)).newest == SIX[1]
    assert await database.write(storing(tick(lower)))


async def test_both_signatures_are_kept_beside_a_newer_receipt(database: Database) -> None:
    both = countersigned(SIX[0])
    await database.write(storing(both))
    row = await found(database)
    assert (row.newest, row.confirmed, row.receipts) == (both, both, (both,))
    await database.write(storing(SIX[1]))
    row = await found(database)
    assert row.receipts == (SIX[1], both)
    assert (row.confirmed_seq, row.confirmed_uc, row.confirmed_total) == (1, times(1).uc, times(1))


async def test_an_older_receipt_that_both_signed_is_kept_unless_a_newer_one_is(database: Database) -> None:
    for signed in (SIX[3], countersigned(SIX[1]), countersigned(SIX[0])):
        await database.write(storing(signed))
    assert (await found(database)).receipts == (SIX[3], countersigned(SIX[1]))


async def test_a_countersignature_takes_the_consumers_signature_it_covers_along(database: Database) -> None:
    """A consumer may sign one body twice, with different bytes."""
    body, other = SIX[0].body, bytes(64)
    await database.write(storing(SIX[0]))
    both = SignedReceipt(body, other, bytes([1]) * 64)
    await database.write(storing(both))
    assert (await found(database)).newest == both


async def test_the_peer_is_the_one_seen_last(database: Database) -> None:
    await database.write(storing(SIX[0]))
    await database.write(lambda connection: rows.met(connection, PAIR, PeerId("other")))
    assert (await found(database)).peer == "other"


async def test_sums_and_numbers_are_of_the_pair_alone(database: Database) -> None:
    for signed in (SIX[1], tick(receipt(1, times(3), chan=8))):
        await database.write(storing(signed))
    assert await database.read(lambda connection: rows.numbers(connection, PAIR)) == [8, 7]
    assert await database.read(lambda connection: rows.sums(connection, PAIR)) == times(5)
    assert await database.read(lambda connection: rows.sums(connection, Pair("consumer", C, P))) == Totals()
    assert [row.chan for row in await database.read(rows.everything)] == [8, 7]


@pytest.mark.parametrize(
    "change",
    [
        "seq = 1",
        "cum_uc = cum_uc - 1",
        "cum_in = 0",
        "cum_out = 0",
        "n_req = 0",
        "body = x'00'",
        "chan = 9",
        "role = 'consumer'",
        "seq = 'many'",
        "cum_uc = 1e30",
        "sig_c = x'00'",
        "sig_p = zeroblob(64)",
        "confirmed_uc = cum_uc + 1",
        "confirmed_seq = 1",
        "peer = NULL",
        "consumer = provider",
    ],
)
async def test_no_statement_takes_a_channel_back_or_out_of_shape(database: Database, change: str) -> None:
    await database.write(storing(SIX[1]))
    before = await found(database)
    with pytest.raises(Conflict):
        await database.write(lambda connection: connection.execute(f"UPDATE channel SET {change}") and None)
    assert await found(database) == before


async def test_no_channel_is_deleted(database: Database) -> None:
    await database.write(storing(SIX[0]))
    with pytest.raises(Conflict, match="never deleted"):
        await database.write(lambda connection: connection.execute("DELETE FROM channel") and None)


async def test_a_row_says_no_more_than_what_was_signed_and_with_whom(database: Database) -> None:
    """No prompt, no model, no address, no time of day: partners must not map each other's lives."""

    def names(connection: Connection) -> set[str]:
        return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('channel')")}

    signed = {"consumer", "provider", "chan", "seq", "cum_uc", "cum_in", "cum_out", "n_req", "body", "sig_c", "sig_p"}
    assert await database.read(names) == signed | {"id", "role", "confirmed", "confirmed_seq", "confirmed_uc", "peer"}
    said = {"network", "consumer", "provider", "chan", "seq", "cum_uc", "cum_in", "cum_out", "n_req", "day", "prev"}
    assert set(type(receipt()).__struct_fields__) == said
