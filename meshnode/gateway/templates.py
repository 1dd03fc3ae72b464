"""Prompt templates filled with what a caller sends: strict, so that a typo is an error and not a hole. Pure.

A placeholder is ``{{name}}``. Every one needs its variable and every variable its placeholder; what is filled in is not
looked at again, so that no value can bring placeholders of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from meshnode.domain import Message, TextPart
from meshnode.errors import InvalidField

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}")
_TOLD: Final = 8
"""Names listed in an error."""


def placeholders(messages: Iterable[Message]) -> tuple[str, ...]:
    """The names that must be filled in, in the order in which they first stand."""
    found = (name for message in messages for part in message.parts for name in _in(part))
    return tuple(dict.fromkeys(found))


def filled(messages: tuple[Message, ...], variables: Mapping[str, str]) -> tuple[Message, ...]:
    """The messages with every placeholder filled in. Raises InvalidField, which names what is missing or too much."""
    names = placeholders(messages)
    missing = [name for name in names if name not in variables]
    if missing:
        raise InvalidField(
            f"variables: the template has a place for {_list(missing)}, which is missing.",
            hint="Send a text for every place, perhaps an empty one.",
            param=f"variables.{missing[0]}",
        )
    if odd := [name for name in variables if name not in names]:
        raise InvalidField(
            f"variables: the template has no place for {_list(odd)}.",
            hint=f"It has places for {_list(names)}." if names else "It has no places at all.",
            param="variables",
        )
    return tuple(_filled(message, variables) for message in messages)


def _filled(message: Message, variables: Mapping[str, str]) -> Message:
    parts = tuple(
        TextPart(_PLACEHOLDER.sub(lambda found: variables[found[1]], part.text)) if isinstance(part, TextPart) else part
        for part in message.parts
    )
    return msgspec.structs.replace(message, parts=parts)


def _in(part: object) -> list[str]:
    return _PLACEHOLDER.findall(part.text) if isinstance(part, TextPart) else []


def _list(names: Iterable[str]) -> str:
    shown = ["".join(char if char.isprintable() else "?" for char in name[:64]) for name in names]
    more = len(shown) - _TOLD
    return ", ".join(shown[:_TOLD]) + (f" and {more} more" if more > 0 else "")
