"""``meshnode history``: what is kept of what was asked and answered, and forgetting it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from meshnode.cli.options import home_option, json_option
from meshnode.cli.show import emit_json, one_line, table
from meshnode.client import open_client
from meshnode.client_records import History


@click.group(invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def history(context: click.Context, home: Path, as_json: bool) -> None:
    """Show how much is kept: stored answers, background jobs, files.

    `clear` forgets it.
    """
    if context.invoked_subcommand is None:
        with open_client(home) as node:
            told = node.history()
        if as_json:
            emit_json(told)
        else:
            click.echo(render_history(told))


@history.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
@json_option
def clear(yes: bool, home: Path, as_json: bool) -> None:
    """Stop what is under way and forget everything that is kept, everybody's, for good."""
    with open_client(home) as node:
        if not yes:
            _ask(node.history().kept)
        told = node.clear_history()
    if as_json:
        emit_json(told)
    else:
        click.echo(f"Forgotten: {_listed(told.kept)}." if told.kept else "There was nothing to forget.")


def render_history(told: History) -> str:
    """What is kept, as ``meshnode history`` prints it."""
    off = "" if told.enabled else "Nothing new is kept: store.enabled is off."
    if not told.kept:
        return off or "Nothing is kept."
    rows = [(one_line(kind), str(count)) for kind, count in sorted(told.kept.items())]
    return "\n".join(part for part in (table(("KEPT", "COUNT"), rows), off) if part)


def _ask(kept: Mapping[str, int]) -> None:
    """Let a person at a terminal say yes; anybody else has to send ``--yes``."""
    if not sys.stdin.isatty():
        raise click.UsageError("This cannot be undone; say --yes.")
    click.confirm(f"Forget {_listed(kept) or 'everything'} for good?", abort=True, err=True)


def _listed(kept: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {one_line(kind)}" for kind, count in sorted(kept.items()))
