"""How the command line writes things: columns, sizes, durations, JSON, and nothing that steers a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, TextIO

import click
import msgspec

_STEERING: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """``text`` without control characters (newlines and tabs stay): what a model says must not steer the terminal."""
    return _STEERING.sub("", text)


def one_line(text: str) -> str:
    """``text`` on one line, printable."""
    return printable(" ".join(text.split()))


def size(count: int) -> str:
    """Bytes for people: ``98 MB``, ``4.7 GB`` (powers of 1000, as model sizes are quoted)."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if unit in ("GB", "TB") and value < 100 else f"{value:.0f} {unit}"


def credit(micro: int) -> str:
    """Micro-credits as credits, exactly: ``1.5``, ``0.000042``, ``-3``."""
    whole, rest = divmod(abs(micro), 1_000_000)
    decimals = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if micro < 0 else ''}{whole}{decimals}"


def short_peer(peer: str) -> str:
    """A peer id by which people tell one from another: ``12D3…ZqSd7f``; what is as short already stays."""
    return f"{peer[:4]}…{peer[-6:]}" if len(peer) > 12 else peer


def duration(seconds: float) -> str:
    """A duration for people, in its two largest units: ``45 s``, ``3 min 20 s``, ``2 d 4 h``."""
    parts = []
    rest = int(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need, three blanks apart."""
    lines = [[one_line(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("   ".join(cells).rstrip() for cells in padded)


def labelled(pairs: Sequence[tuple[str, str]], indent: str = "") -> str:
    """One ``label  value`` a line; a value's further lines are aligned under its first, empty values left out."""
    width = max((len(label) for label, value in pairs if value), default=0)
    lines = []
    for label, value in pairs:
        for number, line in enumerate(value.splitlines()):
            lines.append(f"{indent}{(label if not number else '').ljust(width)}  {printable(line)}")
    return "\n".join(lines)


def drop_output(stream: TextIO | None = None) -> None:
    """Let what is still to be written to ``stream`` (default: stdout) go nowhere: nobody can take it.

    Python would try again at its exit.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def emit_json(value: object) -> None:
    """Print one JSON document on one line."""
    click.echo(msgspec.json.encode(value).decode())
