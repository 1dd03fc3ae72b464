"""Checks of the values that keywords of JSON Schema may have. Pure.

Each returns the value in one form, or refuses it by name and place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from meshnode.engine.constrain.disjoint import type_of
from meshnode.engine.constrain.document import EXACT
from meshnode.engine.constrain.joint import MAX_STEP, digits
from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
MAX_COUNT = 20_000
"""Greatest bound on lengths and numbers of items that is held."""
MAX_LISTED = 5_000
"""Values of one ``enum``."""
_UNWRITABLE = re.compile("[\x00-\x07\x0b\x0e-\x1f]")


def types(value: Any, where: str) -> list[str]:
    """``type``: its names, each once."""
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not named or not all(each in TYPES for each in named):
        raise wrong(where, "one or more of " + ", ".join(TYPES) + " must be named")
    return list(dict.fromkeys(named))


def strings(value: Any, where: str) -> list[str]:
    """A list of strings, each once."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise wrong(where, "must be a list of strings")
    return list(dict.fromkeys(value))


def count(value: Any, where: str) -> int:
    """A length or number of items; 3.0 is 3."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise wrong(where, f"must be a whole number of 0 or more, not {value!r}")
    if value > MAX_COUNT:
        raise too_complex(where, f"{int(value)}; {MAX_COUNT} is the most")
    return int(value)


def number(value: Any, where: str) -> int | float:
    """A bound on numbers, of a size at which doubles are exact."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(where, f"must be a number, not {value!r}")
    if abs(value) > EXACT:
        raise not_held(f"{where} ({value})", f"beyond ±{EXACT} numbers are not exact", "Use a nearer bound.")
    return value


def step(value: Any, where: str) -> int | float:
    """``multipleOf``: a number above 0 of at most 9 digits before and after the point, and few that are not zero."""
    if number(value, where) <= 0:
        raise wrong(where, f"must be above 0, not {value!r}")
    if value > 1e9 or round(value, 9) != value:
        raise not_held(f"{where} ({value})", "it has too many digits", "Use a step of at most 9 digits.")
    if digits(Fraction(str(value))) > MAX_STEP:
        raise not_held(f"{where} ({value})", f"its digits are more than {MAX_STEP}", "Use a rounder step.")
    return int(value) if value == int(value) else value


def subschemas(value: Any, where: str, most: int) -> list[Any]:
    """A list of schemas that is not empty."""
    if not isinstance(value, list) or not value:
        raise wrong(where, "must be a list of schemas, with at least one")
    if len(value) > most:
        raise too_complex(where, f"{len(value)} schemas; {most} are the most")
    return value


def mapping(value: Any, where: str) -> dict[str, Any]:
    """An object of schemas by name."""
    if not isinstance(value, dict):
        raise wrong(where, "must be an object of schemas")
    return value


def fitting(listed: Any, allowed: Sequence[str] | None, where: str) -> list[Any]:
    """``enum``: the values that the ``type`` beside it allows, each once. Raises InvalidField where none are left."""
    if not isinstance(listed, list) or not listed:
        raise wrong(where, "must be a list of values, with at least one")
    if len(listed) > MAX_LISTED:
        raise too_complex(where, f"{len(listed)} values; {MAX_LISTED} are the most")
    kept: list[Any] = []
    seen: set[str] = set()
    for value in listed:
        written = repr(constant(value, where))
        if written not in seen and (allowed is None or _is_of(value, allowed)):
            seen.add(written)
            kept.append(value)
    if not kept:
        raise wrong(where, "no value is of the type beside it")
    return kept


def constant(value: Any, where: str) -> Any:
    """``const``: a value that can be written, and exactly."""
    if isinstance(value, str) and _UNWRITABLE.search(value):
        raise not_held(f"{where} ({value!r})", "control characters cannot be written")
    if isinstance(value, int | float) and not isinstance(value, bool):
        number(value, where)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        constant(each, where)
    return value


def _is_of(value: Any, allowed: Sequence[str]) -> bool:
    named = type_of(value)
    return named in allowed or (named == "number" and "integer" in allowed and value == int(value))
