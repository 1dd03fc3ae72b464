"""Commands about the node itself: ``status``, ``id``, ``stop``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NoReturn

import click

from meshnode import identity
from meshnode.cli.options import home_option, json_option
from meshnode.cli.show import duration, emit_json, labelled, one_line, table
from meshnode.client import open_client, start_command
from meshnode.client_records import MeshStatus, ModelStatus, Status
from meshnode.errors import DeadlineExceeded, NodeNotRunning
from meshnode.mesh.consent import ALONE
from meshnode.storage.home import holder

POLL_S = 0.1


@click.command()
@home_option
@json_option
def status(home: Path, as_json: bool) -> None:
    """Show addresses, devices, models and speed."""
    with open_client(home) as node:
        if as_json:
            click.echo(node.status_json().decode().strip())
        else:
            click.echo(render_status(node.status()))


def render_status(told: Status) -> str:
    """The status as ``meshnode status`` prints it."""
    state = "stopping" if told.draining else f"up {duration(told.uptime_s)}"
    devices = [device.description or device.name for device in told.devices]
    pairs = [
        ("Node", f"meshnode {told.version}, {state}"),
        ("API", "\n".join(told.api)),
        ("Peer id", told.peer_id),
        ("Addresses", "\n".join(told.addresses)),
        ("Mesh", _mesh(told.mesh)),
        ("Home", told.home),
        ("Devices", "\n".join(devices)),
        ("Fetching", "\n".join(f"{one_line(each.source)}, {each.progress:.0%}" for each in told.fetching)),
    ]
    if told.fetching and not told.models:
        return labelled(pairs)
    if not told.models:
        return labelled([*pairs, ("Models", _none_loaded(told.mesh))])
    head = ("MODEL", "STATE", "CONTEXT", "GPU LAYERS", "TOKENS/S", "RUNNING", "WAITING")
    lines = [labelled(pairs), "", table(head, [_row(model) for model in told.models])]
    lines += [f"{model.id}: {model.reason}" for model in told.models if model.reason]
    return "\n".join(lines)


def _none_loaded(told: MeshStatus) -> str:
    if told.models:
        return "none loaded here; `meshnode models` lists those of the mesh"
    return "none" if told.client_only else "none: `meshnode pull default` fetches a small one"


def _mesh(told: MeshStatus) -> str:
    if not told.joined:
        return ALONE
    peers, models = ("" if count == 1 else "s" for count in (told.peers, told.models))
    return f"joined; {told.peers} peer{peers} connected, {told.models} model{models} there"


def _row(model: ModelStatus) -> tuple[str, ...]:
    state = f"{model.state} {model.progress:.0%}" if model.state == "loading" else model.state
    if model.state != "ready":
        return (model.id, state, "", "", "", "", "")
    layers, speed = f"{model.gpu_layers}/{model.layers}", f"{model.decode_tps:.0f}" if model.decode_tps else ""
    return (model.id, state, str(model.context_length), layers, speed, str(model.running), str(model.waiting))


@click.command("id")
@home_option
@json_option
def show_id(home: Path, as_json: bool) -> None:
    """Print the node's peer id."""
    try:
        with open_client(home) as node:
            told = node.status()
        peer_id, addresses = told.peer_id, list(told.addresses)
    except NodeNotRunning:
        peer_id, addresses = _id_of_keys(home), []
    if as_json:
        emit_json({"peer_id": peer_id, "addresses": addresses})
    else:
        click.echo(peer_id)


def _id_of_keys(home: Path) -> str:
    """The peer id of the keys in the home. Raises NodeNotRunning when it has none yet; makes none."""

    def no_new_key(_length: int) -> NoReturn:
        raise NodeNotRunning(f"{home} has no key yet.", hint=f"The first start makes it: {start_command(home)}")

    if not os.path.isdir(home):  # unlike Path's, it takes any name for what it is: no folder
        no_new_key(0)
    return str(identity.load_or_create(home, no_new_key).peer_id)


@click.command()
@home_option
@json_option
@click.option("--timeout", default=60.0, metavar="SECONDS", help="How long to wait until it has.  [default: 60]")
def stop(home: Path, as_json: bool, timeout: float) -> None:
    """Stop the node.

    Answers under way may end within its deadline (stop_deadline_s).
    """
    with open_client(home) as node:
        node.stop()
    deadline = time.monotonic() + timeout
    while (pid := holder(home)) is not None:
        if time.monotonic() > deadline:
            raise DeadlineExceeded("The node has not stopped yet.", hint=f"Wait, or end it: kill -9 {pid}")
        time.sleep(POLL_S)
    if as_json:
        emit_json({"stopped": True})
    else:
        click.echo("Stopped.")
