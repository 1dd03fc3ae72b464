"""Accounts: every number is a signed record's, or a sum of such."""

from __future__ import annotations

from meshnode.domain import PeerId
from meshnode.ledger.accounts import CreditsView, credits_of
from meshnode.ledger.channel import Channel, Pair, Role, Totals
from tests.kit.receipts import C, P, receipt, tick


def channel(role: Role, chan: int, uc: int, confirmed_uc: int) -> Channel:
    """A row with these amounts."""
    return Channel(
        pair=Pair(role, C, P),
        chan=chan,
        seq=3,
        total=Totals(uc=uc, prompt=5, output=6, requests=2),
        newest=tick(receipt()),
        confirmed=None,
        confirmed_seq=0,
        confirmed_uc=confirmed_uc,
        peer=PeerId("12D3KooWx"),
    )


def test_nothing_is_nothing() -> None:
    nothing = CreditsView(earned=0, spent=0, balance=0, earned_unconfirmed=0, spent_unconfirmed=0, channels=())
    assert credits_of([]) == nothing


def test_sums_are_those_of_the_channels() -> None:
    rows = [channel("provider", 1, 700, 500), channel("provider", 2, 50, 0), channel("consumer", 3, 1000, 1000)]
    view = credits_of(rows)
    assert (view.earned, view.earned_unconfirmed) == (750, 250)
    assert (view.spent, view.spent_unconfirmed) == (1000, 0)
    assert view.balance == -250
    assert [each.chan for each in view.channels] == [1, 2, 3]


def test_a_channel_shows_the_key_of_the_other() -> None:
    ours, theirs = credits_of([channel("consumer", 3, 9, 4), channel("provider", 3, 9, 4)]).channels
    assert (ours.key, theirs.key) == (P.hex(), C.hex())
    assert (ours.role, ours.seq, ours.total_uc, ours.confirmed_uc) == ("consumer", 3, 9, 4)
    assert (ours.prompt_tokens, ours.output_tokens, ours.requests) == (5, 6, 2)
