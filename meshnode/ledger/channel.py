"""Channels as rows: the newest receipt of each, and the newest that both signed. Synchronous, inside a transaction.

Whatever is stored was checked before (:func:`meshnode.wire.receipt.checked`); what is judged here is which of two
receipts is newer, and that inside the statement that writes, so that no order of arrival lets an old one win.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from meshnode.domain import PeerId, Record
from meshnode.storage.database import Connection
from meshnode.wire.receipt import Receipt, SignedReceipt, content, decode_signed, encode_signed

Role = Literal["consumer", "provider"]
"""What this node is in a channel: it owes, or it is owed."""


class Totals(Record, frozen=True):
    """What a channel has come to, or what is to be added: µc, prompt tokens (cached too), output tokens, requests."""

    uc: int = 0
    prompt: int = 0
    output: int = 0
    requests: int = 0

    def plus(self, more: Totals) -> Totals:
        """The sum."""
        return Totals(
            uc=self.uc + more.uc,
            prompt=self.prompt + more.prompt,
            output=self.output + more.output,
            requests=self.requests + more.requests,
        )

    @staticmethod
    def of(receipt: Receipt) -> Totals:
        """The totals that a receipt states."""
        return Totals(uc=receipt.cum_uc, prompt=receipt.cum_in, output=receipt.cum_out, requests=receipt.n_req)


class Pair(NamedTuple):
    """Two ledger keys, and which of them is ours. There may be any number of channels between them."""

    role: Role
    consumer: bytes
    provider: bytes


class Channel(Record, frozen=True):
    """One row. ``newest.sig_p`` is empty until the provider countersigned just this receipt; ``peer`` as last seen."""

    pair: Pair
    chan: int
    seq: int
    total: Totals
    newest: SignedReceipt
    confirmed: SignedReceipt | None
    confirmed_seq: int
    confirmed_uc: int
    peer: PeerId

    @property
    def confirmed_total(self) -> Totals:
        """The totals that both signed; zeros before there are any."""
        return Totals() if self.confirmed is None else Totals.of(content(self.confirmed))

    @property
    def receipts(self) -> tuple[SignedReceipt, ...]:
        """The newest, and the newest that both signed where that is another."""
        if self.confirmed is None or self.newest.confirmed:
            return (self.newest,)
        return (self.newest, self.confirmed)


_OF_PAIR: Final = "role = ? AND consumer = ? AND provider = ?"
_SELECT: Final = """SELECT role, consumer, provider, chan, seq, cum_uc, cum_in, cum_out, n_req, body, sig_c, sig_p,
    confirmed, confirmed_seq, confirmed_uc, peer FROM channel"""
_STORE: Final = """INSERT INTO channel
    (role, consumer, provider, chan, seq, cum_uc, cum_in, cum_out, n_req, body, sig_c, peer)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (role, consumer, provider, chan) DO UPDATE SET
        seq = excluded.seq, cum_uc = excluded.cum_uc, cum_in = excluded.cum_in, cum_out = excluded.cum_out,
        n_req = excluded.n_req, body = excluded.body, sig_c = excluded.sig_c, sig_p = NULL, peer = excluded.peer
    WHERE excluded.seq > channel.seq AND excluded.cum_uc >= channel.cum_uc AND excluded.cum_in >= channel.cum_in
        AND excluded.cum_out >= channel.cum_out AND excluded.n_req >= channel.n_req"""
_CONFIRM: Final = """UPDATE channel SET
        sig_c = CASE WHEN body = :body THEN :sig_c ELSE sig_c END,
        sig_p = CASE WHEN body = :body THEN :sig_p ELSE sig_p END,
        confirmed = :both, confirmed_seq = :seq, confirmed_uc = :uc
    WHERE role = :role AND consumer = :consumer AND provider = :provider AND chan = :chan
        AND :seq > confirmed_seq AND :uc >= confirmed_uc AND :uc <= cum_uc AND (:seq < seq OR body = :body)"""


def find(connection: Connection, pair: Pair, chan: int) -> Channel | None:
    """One channel of a pair, if it is known."""
    row = connection.execute(f"{_SELECT} WHERE {_OF_PAIR} AND chan = ?", (*pair, chan)).fetchone()
    return None if row is None else _channel(row)


def numbers(connection: Connection, pair: Pair) -> list[int]:
    """The channels of a pair, latest opened first."""
    rows = connection.execute(f"SELECT chan FROM channel WHERE {_OF_PAIR} ORDER BY id DESC", pair)
    return [int(chan) for (chan,) in rows]


def everything(connection: Connection) -> list[Channel]:
    """All channels with anybody, latest opened first."""
    return [_channel(row) for row in connection.execute(f"{_SELECT} ORDER BY id DESC")]


def unsigned(connection: Connection, pair: Pair, first: int | None) -> Channel | None:
    """A channel whose newest receipt is not countersigned: ``first`` before others, then the latest opened."""
    row = connection.execute(
        f"{_SELECT} WHERE {_OF_PAIR} AND sig_p IS NULL ORDER BY chan IS ? DESC, id DESC LIMIT 1", (*pair, first)
    ).fetchone()
    return None if row is None else _channel(row)


def sums(connection: Connection, pair: Pair) -> Totals:
    """The totals of all channels of a pair, added up."""
    total = Totals()
    for row in connection.execute(f"SELECT cum_uc, cum_in, cum_out, n_req FROM channel WHERE {_OF_PAIR}", pair):
        total = total.plus(_totals(row))
    return total


def met(connection: Connection, pair: Pair, peer: PeerId) -> None:
    """Note as which peer the other key was seen last."""
    connection.execute(f"UPDATE channel SET peer = ? WHERE {_OF_PAIR} AND peer <> ?", (peer, *pair, peer))


def store(connection: Connection, role: Role, signed: SignedReceipt, receipt: Receipt, peer: PeerId) -> bool:
    """Keep a receipt where it is the newest of its channel; gives whether it was.

    With both signatures it is kept as confirmed too, if it is newer than what is kept as that.
    """
    pair = Pair(role, receipt.consumer, receipt.provider)
    totals = (receipt.cum_uc, receipt.cum_in, receipt.cum_out, receipt.n_req)
    values = (*pair, receipt.chan, receipt.seq, *totals, signed.body, signed.sig_c, peer)
    stored = connection.execute(_STORE, values).rowcount == 1
    if signed.confirmed:
        confirm(connection, pair, signed, receipt)
    return stored


def confirm(connection: Connection, pair: Pair, signed: SignedReceipt, receipt: Receipt) -> None:
    """Keep a receipt with both signatures of a channel that is known, if it is newer than what was kept."""
    values: dict[str, Any] = {
        **pair._asdict(),
        "chan": receipt.chan,
        "seq": receipt.seq,
        "uc": receipt.cum_uc,
        "body": signed.body,
        "sig_c": signed.sig_c,
        "sig_p": signed.sig_p,
        "both": encode_signed(signed),
    }
    connection.execute(_CONFIRM, values)


def _channel(row: tuple[Any, ...]) -> Channel:
    role, consumer, provider, chan, seq, *totals, body, sig_c, sig_p, confirmed, confirmed_seq, confirmed_uc, peer = row
    return Channel(
        pair=Pair(role, consumer, provider),
        chan=chan,
        seq=seq,
        total=_totals(totals),
        newest=SignedReceipt(body, sig_c, sig_p or b""),
        confirmed=None if confirmed is None else decode_signed(confirmed),
        confirmed_seq=confirmed_seq,
        confirmed_uc=confirmed_uc,
        peer=PeerId(peer),
    )


def _totals(row: Iterable[int]) -> Totals:
    uc, prompt, output, requests = row
    return Totals(uc=uc, prompt=prompt, output=output, requests=requests)
