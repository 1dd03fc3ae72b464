"""``meshnode up``: start a node here and stay with it."""

from __future__ import annotations

import os

import click

from meshnode import config
from meshnode.cli import banner
from meshnode.cli.options import UpCommand, flags_of, json_option, note_home, settings_options
from meshnode.cli.progress import PullDisplay
from meshnode.cli.show import drop_output, emit_json


@click.command(cls=UpCommand)
@settings_options
@json_option
@click.pass_context
def up(context: click.Context, /, as_json: bool, **given: object) -> None:
    """Start the node and stay with it.

    It runs until Ctrl-C or `meshnode stop`.

    Every option is also an environment variable (--api is MESHNODE_API) and a key of HOME/config.toml; options win over
    variables, variables over the file. The log goes to stderr; once requests are answered, stdout says where.
    """
    flags = flags_of(given)
    note_home(context, config.home_of(flags, os.environ).absolute())
    settings = config.read(flags, os.environ)
    from meshnode import node  # here, as it brings every library along: the other commands start faster without

    def on_ready(ready: banner.Ready) -> None:
        try:
            if as_json:
                emit_json(banner.as_object(ready))
            else:
                click.echo(banner.render(ready))
        except OSError:  # nobody reads it, or it goes to a full disk: no reason for a node to end
            drop_output()

    with PullDisplay() as display:
        context.exit(node.run(settings, on_ready=on_ready, on_progress=display))
