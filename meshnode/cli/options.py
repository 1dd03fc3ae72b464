"""The options that every command takes, and those of ``up``, which are made from the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from meshnode import config
from meshnode.settings import SETTINGS, Setting, shown

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS: Final[Mapping[str, str]] = {
    "": "Options", "api": "API", "net": "Network", "serve": "Serving", "engine": "Engine", "store": "What is kept",
    "log": "Log",
}  # fmt: skip
FOREMOST: Final = (
    "home", "api.address", "net.listen", "net.join",
    "engine.model", "engine.enabled", "engine.cpu", "net.private_network", "net.network", "serve.client_only",
)  # fmt: skip
"""Settings that people change; they stand first in the help."""


def home_option(function: F) -> F:
    """``--home``, absolute, from the environment or the default when not given; parameter ``home``."""
    return click.option(
        "--home", metavar="PATH", callback=_home, expose_value=True, help="The node's home.  [default: ~/.meshnode]"
    )(function)


def json_option(function: F) -> F:
    """``--json``; parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def _home(context: click.Context, _option: click.Parameter, given: str | None) -> Path:
    home = config.home_of({"home": given}, os.environ).absolute()
    note_home(context, home)
    return home


def note_home(context: click.Context, home: Path) -> None:
    """Remember the home for whoever prints an error of this command."""
    context.find_root().ensure_object(dict)["home"] = home


# --- the settings as options ----------------------------------------------------------------------


def settings_options(function: F) -> F:
    """All settings as options; the command gets them as keywords for :func:`flags_of`."""
    for setting in reversed(SETTINGS):
        function = _option(setting)(function)
    return function


def flags_of(given: Mapping[str, object]) -> dict[str, object]:
    """What :func:`meshnode.config.load` takes as flags, from the command's keywords."""
    return {setting.key: given[_parameter(setting)] for setting in SETTINGS}


def _parameter(setting: Setting) -> str:
    return setting.key.replace(".", "__")


def _option(setting: Setting) -> Callable[[F], F]:
    default = shown(setting)
    text = setting.help.replace("`", "") + (f"  [default: {default}]" if default else "")
    if isinstance(setting.default, bool):
        name = setting.flag.removeprefix("--").removeprefix("no-")
        return click.option(f"--{name}/--no-{name}", _parameter(setting), default=None, help=text)
    return click.option(
        setting.flag, _parameter(setting), metavar=setting.type.metavar, multiple=setting.type.many, help=text
    )


class UpCommand(click.Command):
    """A command whose help shows the settings that people change first, the others by room."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in sections."""
        rooms: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                rooms.setdefault(_section(parameter.name or ""), []).append(record)
        rooms[""].sort(key=lambda record: _rank(record[0]))
        for room, records in rooms.items():
            with formatter.section(SECTIONS[room]):
                formatter.write_dl(records)


def _section(parameter: str) -> str:
    key = parameter.replace("__", ".")
    return "" if key in FOREMOST or "." not in key else key.partition(".")[0]


def _rank(record: str) -> int:
    flags = [setting.flag for key in FOREMOST for setting in SETTINGS if setting.key == key]
    given = record.replace(",", " ").replace("/", " ").split()
    return next((number for number, flag in enumerate(flags) if flag in given), len(flags))
