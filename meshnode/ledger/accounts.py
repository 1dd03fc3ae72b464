"""What was earned and what was spent, as the owner is shown it: sums of signed records and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.domain import PeerId, Record
from meshnode.ledger.channel import Channel


class ChannelView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One channel. ``role`` is ours: ``consumer`` (we owe) or ``provider`` (we are owed). Amounts in micro-credits.

    ``total_uc`` is the newest receipt's; ``confirmed_uc`` that of the newest both signed. Tokens and requests as there.
    ``key`` is the other's ledger key in hex, ``peer`` the peer that it was seen as last.
    """

    role: str
    peer: PeerId
    key: str
    chan: int
    seq: int
    total_uc: int
    confirmed_uc: int
    prompt_tokens: int
    output_tokens: int
    requests: int


class CreditsView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """All channels and their sums, in micro-credits; ``balance`` is earned less spent.

    ``earned`` and ``spent`` are what consumers signed, which binds them at once; the unconfirmed amounts are the parts
    of these that the provider has not countersigned yet.
    """

    earned: int
    spent: int
    balance: int
    earned_unconfirmed: int
    spent_unconfirmed: int
    channels: tuple[ChannelView, ...]


def credits_of(channels: Iterable[Channel]) -> CreditsView:
    """The channels as they are shown, in the order given, and their sums."""
    views = tuple(_view(channel) for channel in channels)
    earned = sum(view.total_uc for view in views if view.role == "provider")
    spent = sum(view.total_uc for view in views if view.role == "consumer")
    return CreditsView(
        earned=earned,
        spent=spent,
        balance=earned - spent,
        earned_unconfirmed=earned - sum(view.confirmed_uc for view in views if view.role == "provider"),
        spent_unconfirmed=spent - sum(view.confirmed_uc for view in views if view.role == "consumer"),
        channels=views,
    )


def _view(channel: Channel) -> ChannelView:
    role, consumer, provider = channel.pair
    return ChannelView(
        role=role,
        peer=channel.peer,
        key=(provider if role == "consumer" else consumer).hex(),
        chan=channel.chan,
        seq=channel.seq,
        total_uc=channel.total.uc,
        confirmed_uc=channel.confirmed_uc,
        prompt_tokens=channel.total.prompt,
        output_tokens=channel.total.output,
        requests=channel.total.requests,
    )
