"""Commands about models: ``models`` (list, ``scan``, ``add``), ``pull``, ``rm``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from meshnode.cli.options import home_option, json_option
from meshnode.cli.progress import PullDisplay
from meshnode.cli.show import emit_json, labelled, one_line, size, table
from meshnode.client import open_client
from meshnode.client_records import Model, Outlook


@click.group(invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def models(context: click.Context, home: Path, as_json: bool) -> None:
    """List models, here and on the mesh.

    `scan` and `add` find more.
    """
    if context.invoked_subcommand is None:
        with open_client(home) as node:
            _list(node.models(), as_json, "No models yet. `meshnode pull default` fetches a small one.")


@models.command()
@home_option
@json_option
def scan(home: Path, as_json: bool) -> None:
    """Find models that Ollama, LM Studio or the hub's cache already hold; nothing is copied."""
    with open_client(home) as node:
        _list(node.scan(), as_json, "Nothing new found.")


@models.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: after the file]")
@home_option
@json_option
def add(path: Path, name: str | None, home: Path, as_json: bool) -> None:
    """Use the GGUF file at PATH where it lies."""
    with open_client(home) as node:
        model = node.add(path, name=name)
    if as_json:
        emit_json(model)
    else:
        click.echo(f"Added {one_line(model.id)}. Ask it: meshnode chat {one_line(model.id)}")


def _list(found: Iterable[Model], as_json: bool, otherwise: str) -> None:
    found = tuple(found)
    if as_json:
        emit_json({"models": found})
    elif not found:
        click.echo(otherwise)
    else:
        click.echo(table(("NAME", "SIZE", "CONTEXT", "STATE", "FROM"), [_row(model) for model in found]))


def _row(model: Model) -> tuple[str, ...]:
    if model.owned_by == "mesh":
        count = f"{model.providers} provider{'s' if model.providers != 1 else ''}"
        return (model.id, "", str(model.context_length), model.state, f"mesh ({count})")
    return (model.id, size(model.size), str(model.context_length), model.state, model.source or model.path)


@click.command()
@click.argument("names", metavar="MODEL...", nargs=-1, required=True)
@home_option
@json_option
def rm(names: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Remove models.

    A file that only was referred to stays where it is.
    """
    with open_client(home) as node:
        before = {model.id: model for model in node.models()}
        for name in names:
            removed = node.remove(name)
            if as_json:
                emit_json({"id": removed, "deleted": True})
            else:
                click.echo(f"Removed {one_line(removed)}{_kept(before.get(removed))}.")


def _kept(model: Model | None) -> str:
    return f" (its file stays: {one_line(model.path)})" if model is not None and not model.managed else ""


@click.command()
@click.argument("model")
@click.option("--context", default=0, metavar="N", help="Tokens of context.  [default: as the node has it]")
@home_option
@json_option
@click.pass_context
def fit(click_context: click.Context, /, model: str, context: int, home: Path, as_json: bool) -> None:
    """Say whether MODEL will run here, where, with how much context, and how fast.

    Nothing is loaded. The exit code is 1 where it does not fit.
    """
    if not 0 <= context < 1 << 29:
        raise click.BadParameter(f"{context} is no number of tokens.", param_hint="--context")
    with open_client(home) as node:
        told = node.fit(model, context)
    if as_json:
        emit_json(told)
    else:
        click.echo(render_fit(told))
    click_context.exit(0 if told.fits else 1)


def render_fit(told: Outlook) -> str:
    """A verdict as ``meshnode fit`` prints it."""
    found = told.fit
    parts = [
        ("Weights", size(found.weights)),
        ("Cache", f"{size(found.cache)} for {found.context:,} tokens"),
        ("Buffers", size(found.compute)),
        ("Largest context", f"{found.largest_context:,} tokens" if found.largest_context else "none"),
    ]
    return "\n".join([one_line(found.sentence), one_line(told.speed.sentence), labelled(parts, indent="  ")])


# --- pull -----------------------------------------------------------------------------------------


@click.command()
@click.argument("source", default="default")
@home_option
@json_option
def pull(source: str, home: Path, as_json: bool) -> None:
    """Fetch a model.

    SOURCE is `default`, an https:// URL, a file, or `hf:owner/repo:quant`. What was fetched is kept when this is
    broken off; the next pull goes on from there.
    """
    with open_client(home) as node, PullDisplay() as display:
        for step in node.pull(_absolute(source)):
            if as_json:
                emit_json(step)
                continue
            display(step)
            if step.phase == "done":
                name = one_line(step.model or source)
                click.echo(f"{name} is here. Ask it: meshnode chat {name}")


def _absolute(source: str) -> str:
    """A file's path from the root, as the node runs in another folder; anything else as it is."""
    path = Path(source).expanduser()
    there = os.path.isfile(path)  # unlike Path's, it takes a name too long for a file for what it is
    return str(path.absolute()) if source != "default" and there else source
