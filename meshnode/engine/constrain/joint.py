"""What keywords cost where several schemas hold together. Pure.

The library counts remainders by states, and of two steps at once by the states of their least common multiple: of 9973
and 9967 it would build a hundred million before any of its limits is asked. Whether several patterns can all match is
looked for in every combination of their states, which doubles with each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

from meshnode.engine.constrain.disjoint import Schema

MAX_STEP = 10_000
"""Greatest step, its point and trailing zeros left out: 40 ms of compilation."""
MAX_PATTERNS = 10
"""That one string must match; with 20 some compile for seconds."""


class Joint(NamedTuple):
    """Of everything that may hold for one value: the least common multiple of steps, and the number of patterns."""

    step: Fraction | None
    patterns: int


def digits(step: Fraction) -> int:
    """A step's digits as one number, without point and trailing zeros: of 0.25 as of 2500 it is 25.

    Digits after the ninth behind the point are cut off.
    """
    return int(str(int(step * 10**9)).rstrip("0") or "0")


def joined(schema: Schema, defs: Mapping[str, Schema]) -> Joint:
    """What comes together under a canonical schema: of patterns in ``anyOf`` the most, of steps as if all held."""
    return _joined(schema, defs, set())


def _joined(schema: Schema, defs: Mapping[str, Schema], seen: set[str]) -> Joint:
    if isinstance(schema, bool):
        return Joint(None, 0)
    together = [_joined(part, defs, seen) for part in schema.get("allOf", ())]
    if (name := schema.get("$ref")) is not None and name not in seen:
        seen.add(name)
        together.append(_joined(defs.get(name, True), defs, seen))
    options = [_joined(option, defs, seen) for option in schema.get("anyOf", ())]
    own = Fraction(str(schema["multipleOf"])) if "multipleOf" in schema else None
    step = reduce(_multiple, (part.step for part in [*together, *options]), own)
    patterns = sum(part.patterns for part in together) + max((part.patterns for part in options), default=0)
    return Joint(step, patterns + ("pattern" in schema))


def _multiple(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    if one is None or other is None:
        return one or other
    return Fraction(math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator))
