"""Commands about the mesh: ``peers``, ``credits``, ``join``, ``leave``, ``serve``, ``unserve``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from meshnode.cli.options import home_option, json_option
from meshnode.cli.show import credit, emit_json, labelled, one_line, printable, short_peer, table
from meshnode.client import Client, open_client
from meshnode.client_records import Channel, Credits, Peer
from meshnode.mesh.consent import on_joining

ROLES: Final = {"provider": "earned", "consumer": "spent"}
"""What a channel's role means for this node."""


# --- peers ----------------------------------------------------------------------------------------


@click.command()
@home_option
@json_option
def peers(home: Path, as_json: bool) -> None:
    """Show peers: how they are reached, what they offer, how they did."""
    with open_client(home) as node:
        found = node.peers()
    if as_json:
        emit_json({"peers": found})
    else:
        click.echo(render_peers(found))


def render_peers(found: Sequence[Peer]) -> str:
    """The peers as ``meshnode peers`` prints them, those that are connected first."""
    if not found:
        return (
            "No peers yet. `meshnode join ADDR` connects to one; on the other machine, `meshnode id --json` shows ADDR."
        )
    head = ("PEER", "REACHED", "RTT", "OFFERS", "DONE", "SPEED", "FIRST TOKEN", "SCORE", "NOTE")
    return table(head, [_peer_row(peer) for peer in sorted(found, key=lambda peer: not peer.connected)])


def _peer_row(peer: Peer) -> tuple[str, ...]:
    done = f"{peer.successes} ok, {peer.failures} failed" if peer.successes or peer.failures else ""
    return (
        short_peer(peer.peer),
        _reached(peer),
        f"{peer.rtt_s * 1000:.0f} ms" if peer.rtt_s is not None else "",
        _offers(peer.models),
        done,
        f"{peer.decode_tps:.0f} tok/s" if peer.decode_tps is not None else "",
        f"{peer.first_token_s:.2f} s" if peer.first_token_s is not None else "",
        f"{peer.score:.2f}",
        _note(peer),
    )


def _note(peer: Peer) -> str:
    if not peer.avoided:
        return peer.last_failure
    return f"avoided: {peer.avoided}" + (f" ({peer.last_failure})" if peer.last_failure else "")


def _reached(peer: Peer) -> str:
    if peer.connected:
        return f"{peer.address.partition('/p2p/')[0]} ({'out' if peer.outbound else 'in'})"
    passed_on = peer.source not in ("", "itself", peer.peer)
    return f"no; offer by {short_peer(peer.source)}" if passed_on else "no"


def _offers(models: Sequence[str]) -> str:
    """The first two, and how many more."""
    rest = len(models) - 2
    return ", ".join(models[:2]) + (f" +{rest}" if rest > 0 else "")


# --- credits --------------------------------------------------------------------------------------


@click.command(name="credits")
@home_option
@json_option
def show_credits(home: Path, as_json: bool) -> None:
    """Show credits earned and spent, in all and with each peer.

    A consumer signs for what it got; an amount is unconfirmed until the provider has signed too.
    """
    with open_client(home) as node:
        if as_json:
            click.echo(node.credits_json().decode().strip())
        else:
            click.echo(render_credits(node.credits()))


def render_credits(told: Credits) -> str:
    """The account as ``meshnode credits`` prints it."""
    pairs = [
        ("Earned", _amount(told.earned, told.earned_unconfirmed)),
        ("Spent", _amount(told.spent, told.spent_unconfirmed)),
        ("Balance", f"{credit(told.balance)} credits"),
    ]
    if not told.channels:
        return f"{labelled(pairs)}\n\nNothing yet: answers given to peers earn, answers got from peers cost."
    head = ("PEER", "ROLE", "TOTAL", "CONFIRMED", "UNCONFIRMED", "REQUESTS", "TOKENS IN", "TOKENS OUT")
    return f"{labelled(pairs)}\n\n{table(head, [_account_row(account) for account in by_peer(told.channels)])}"


def _amount(total: int, unconfirmed: int) -> str:
    return f"{credit(total)} credits" + (f", {credit(unconfirmed)} of them unconfirmed" if unconfirmed else "")


class Account(NamedTuple):
    """All channels with one peer in one role, summed; amounts in micro-credits."""

    peer: str
    role: str
    total_uc: int = 0
    confirmed_uc: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def plus(self, channel: Channel) -> Account:
        """With one more channel."""
        return Account(
            self.peer,
            self.role,
            self.total_uc + channel.total_uc,
            self.confirmed_uc + channel.confirmed_uc,
            self.requests + channel.requests,
            self.prompt_tokens + channel.prompt_tokens,
            self.output_tokens + channel.output_tokens,
        )


def by_peer(channels: Iterable[Channel]) -> list[Account]:
    """One account for each peer and role, the largest first."""
    found: dict[tuple[str, str], Account] = {}
    for channel in channels:
        key = (channel.peer or channel.key, channel.role)
        found[key] = found.get(key, Account(*key)).plus(channel)
    return sorted(found.values(), key=lambda account: (-account.total_uc, account.peer, account.role))


def _account_row(account: Account) -> tuple[str, ...]:
    unconfirmed = account.total_uc - account.confirmed_uc
    return (
        short_peer(account.peer),
        ROLES.get(account.role, account.role),
        credit(account.total_uc),
        credit(account.confirmed_uc),
        credit(unconfirmed) if unconfirmed else "",
        str(account.requests),
        str(account.prompt_tokens),
        str(account.output_tokens),
    )


# --- join and leave -------------------------------------------------------------------------------


@click.command()
@click.argument("address", metavar="ADDR")
@home_option
@json_option
def join(address: str, home: Path, as_json: bool) -> None:
    """Join the mesh by a peer's address, now and at each start.

    ADDR ends in /p2p/ and the peer's id, as `meshnode id --json` shows it on the other machine. Strangers of the
    network may then use this node's models, unless it was started with --client-only.
    """
    with open_client(home) as node:
        peer = node.join(address)
        if as_json:
            emit_json({"peer": peer})
        else:
            click.echo(_consent(node))


def _consent(node: Client) -> str:
    served = [model.served for model in node.served()]
    return on_joining(client_only=node.status().mesh.client_only, served=served)


@click.command()
@home_option
@json_option
def leave(home: Path, as_json: bool) -> None:
    """Leave the mesh.

    Every address is forgotten, and strangers are let in no more; neither are they asked.
    """
    with open_client(home) as node:
        forgotten = node.leave()
    if as_json:
        emit_json({"forgotten": forgotten})
    else:
        addresses = {0: "No address was", 1: "1 address was"}.get(forgotten, f"{forgotten} addresses were")
        click.echo(f"Left. {addresses} forgotten; this node and strangers do nothing for each other any more.")


# --- serve and unserve ----------------------------------------------------------------------------


@click.command()
@click.argument("model", required=False)
@home_option
@json_option
def serve(model: str | None, home: Path, as_json: bool) -> None:
    """Let strangers use MODEL, or list what they may use.

    It holds from now on, over restarts, until `meshnode unserve MODEL`.
    """
    with open_client(home) as node:
        if model is not None:
            _set(node, model, True, as_json)
            return
        found = node.served()
    if as_json:
        emit_json({"models": found})
    elif not found:
        click.echo("No models yet. `meshnode pull default` fetches a small one.")
    else:
        click.echo(table(("MODEL", "STRANGERS"), [(each.id, "may use it" if each.served else "no") for each in found]))


@click.command()
@click.argument("model")
@home_option
@json_option
def unserve(model: str, home: Path, as_json: bool) -> None:
    """Keep MODEL back: strangers may use it no more."""
    with open_client(home) as node:
        _set(node, model, False, as_json)


def _set(node: Client, model: str, on: bool, as_json: bool) -> None:
    told = node.serve(model, on)
    if as_json:
        emit_json(told)
    elif told.served:
        click.echo(
            f"Strangers of the network may use {one_line(told.id)} (`meshnode unserve {one_line(told.id)}` ends it)."
        )
    elif on:
        click.echo(f"{printable(told.id)} is not served: this node was started with --client-only.")
    else:
        click.echo(f"{one_line(told.id)} is kept back: strangers may not use it.")
