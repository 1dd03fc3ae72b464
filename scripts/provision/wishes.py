"""What the user asked for, as far as it decides what is installed: run on the CPU, run no engine at all."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Wishes:
    """``cpu``: a GPU, if there is one, is not to be used. ``engine``: models run on this machine."""

    cpu: bool
    engine: bool


def read_wishes(flags: Sequence[str], environ: Mapping[str, str]) -> Wishes:
    """From the same three places as the node's settings: flags, environment, ``config.toml``.

    Nothing is refused here: the node itself says what is wrong with a setting.
    """
    table = _engine_table(_home(flags, environ) / "config.toml")
    cpu = "--cpu" in flags or _is_true(environ.get("MESHNODE_CPU")) or table.get("cpu") is True
    no_engine = "--no-engine" in flags or _is_true(environ.get("MESHNODE_NO_ENGINE")) or table.get("enabled") is False
    return Wishes(cpu=cpu, engine=not no_engine)


def _is_true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in _TRUE


def _home(flags: Sequence[str], environ: Mapping[str, str]) -> Path:
    named = environ.get("MESHNODE_HOME") or "~/.meshnode"
    for place, flag in enumerate(flags):
        if flag == "--home" and place + 1 < len(flags):
            named = flags[place + 1]
        elif flag.startswith("--home="):
            named = flag.partition("=")[2]
    try:
        return Path(named).expanduser()
    except RuntimeError:
        return Path(named)


def _engine_table(config: Path) -> Mapping[str, object]:
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8")).get("engine")
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
