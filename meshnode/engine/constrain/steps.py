"""What ``multipleOf`` comes to where several hold together. Pure.

The library counts remainders by states, and of two steps at once by the states of their least common multiple: of 9973
and 9967 it would build a hundred million before any of its limits is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from meshnode.engine.constrain.disjoint import Schema

MAX_STEP = 10_000
"""Greatest step, its point and trailing zeros left out: 40 ms of compilation."""


def digits(step: Fraction) -> int:
    """A step's digits as one number, without point and trailing zeros: of 0.25 as of 2500 it is 25.

    Digits after the ninth behind the point are cut off.
    """
    return int(str(int(step * 10**9)).rstrip("0") or "0")


def joined(schema: Schema, defs: Mapping[str, Schema]) -> Fraction | None:
    """Least common multiple of every step that a number may have to keep under a canonical schema; ``None`` without."""
    found: Fraction | None = None
    waiting, seen = [schema], set[str]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, bool):
            continue
        waiting += [*node.get("allOf", ()), *node.get("anyOf", ())]
        if (name := node.get("$ref")) is not None and name not in seen:
            seen.add(name)
            waiting.append(defs.get(name, True))
        if "multipleOf" in node:
            step = Fraction(str(node["multipleOf"]))
            found = step if found is None else _multiple(found, step)
    return found


def _multiple(one: Fraction, other: Fraction) -> Fraction:
    return Fraction(math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator))
