"""What a setting may hold: each kind reads typed values (a file's) and strings (a flag's, a variable's). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a setting may hold: ``parse`` takes a typed value and ``from_text`` a string; both raise ValueError.

    ``metavar`` stands for the value in a command's help; a ``many`` flag may be given again.
    """

    allowed: str
    parse: Callable[[object], Any]
    from_text: Callable[[str], Any]
    metavar: str = ""
    many: bool = False


def text(pattern: str = r"[^\x00-\x1f\x7f]+", allowed: str = "a line of text", metavar: str = "TEXT") -> Kind:
    """A string that matches ``pattern`` whole."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Kind(allowed, parse, parse, metavar)


def choice(*names: str) -> Kind:
    """One of a few words."""
    return text("|".join(names), f"one of {', '.join(names)}", "|".join(names))


def address() -> Kind:
    """``HOST:PORT``; an IPv6 host in brackets."""
    line = text(r"([\w.-]+|\[[0-9A-Fa-f:.%]+\]):\d{1,5}", "HOST:PORT, such as 127.0.0.1:9337 or [::1]:9337")

    def parse(value: object) -> str:
        if int(line.parse(value).rpartition(":")[2]) > 65535:
            raise ValueError
        return str(value)

    return Kind(line.allowed, parse, parse, "HOST:PORT")


def multiaddr() -> Kind:
    """An address as libp2p writes it; the net room reads it in full."""
    pattern = r"/(ip4|ip6|dns|dns4|dns6|dnsaddr)/[^\s/,]+(/[^\s/,]+)*"
    return text(pattern, "a multiaddr, such as /ip4/127.0.0.1/tcp/9338", "MULTIADDR")


def path() -> Kind:
    """A path, as it was given."""
    line = text(allowed="a path")

    def parse(value: object) -> Path:
        return value if isinstance(value, Path) else Path(line.parse(value))

    return Kind(line.allowed, parse, parse, "PATH")


def number(low: float, high: float) -> Kind:
    """A float in a range; whole numbers will do."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError
        return float(value)

    return Kind(f"a number from {low} to {high}", parse, lambda text: parse(float(text)), "NUMBER")


def integer(low: int, high: int) -> Kind:
    """An int in a range; a bool is none."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", parse, lambda text: parse(int(text)), "N")


def size(low: int, high: int) -> Kind:
    """A number of bytes, plain or with KiB, MiB, GiB."""
    units = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}

    def parse(value: object) -> int:
        if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,12})\s*([kmg]ib)?", value.lower())):
            value = int(match[1]) * units[match[2] or ""]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a size from {low} to {high} bytes, such as 1048576 or 1 MiB", parse, parse, "SIZE")


def switch() -> Kind:
    """On or off."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

    def parse(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def from_text(text: str) -> bool:
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]

    return Kind("true or false", parse, from_text)


def listing(item: Kind) -> Kind:
    """A tuple of one kind."""

    def parse(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(item.parse(entry) for entry in value)

    return Kind(
        f"a list, each {item.allowed} (in the environment: separated by commas)",
        parse,
        lambda text: parse([part.strip() for part in text.split(",") if part.strip()]),
        item.metavar,
        many=True,
    )
