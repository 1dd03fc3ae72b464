"""JSON as a request body may be: one object, RFC 8259 to the letter, bounded. Pure.

Stricter than most readers: a repeated name, NaN, an infinity, half a surrogate pair or bytes that are not UTF-8 have no
one meaning, so they are refused rather than guessed. Depth is counted before anything is parsed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import accumulate
from typing import Any, Final, NoReturn

from meshnode.errors import MalformedBody

MAX_DEPTH: Final = 64
"""Arrays and objects inside each other; the deepest documented field needs 8."""
MAX_CONTAINERS: Final = 1_000_000
"""Arrays and objects in all; a container costs us some hundred bytes for its two."""

# A string that is not closed ends with the data, so that no text makes the scan start over at every quote.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# Numbers that could overflow are rare; without one the parser's own fast path reads them all.
_PERHAPS_HUGE: Final = re.compile(r"[eE]\+?\d{3}|\d{300}")
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(body: bytes) -> dict[str, Any]:
    """The object in ``body``. Raises MalformedBody, which never quotes the body."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 (byte {error.start}).", hint="Send JSON encoded as UTF-8.")
    _check_depth(body)
    value = _load(text)
    if not isinstance(value, dict):
        raise MalformedBody(f"the body is {describe(value)}, not a JSON object.")
    if _ESCAPED_SURROGATE.search(text) and _has_surrogate(value):
        raise MalformedBody("a string holds half a surrogate pair, which is no character.")
    return value


def describe(value: object) -> str:
    """What kind of JSON value this is, in a few words: ``a string``, ``an array`` …"""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"}
    kind = kinds.get(type(value), "something else")
    return kind if value or isinstance(value, int | float) else "an empty " + kind.split()[-1]


def _check_depth(body: bytes) -> None:
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise MalformedBody(f"the body has more than {MAX_CONTAINERS} arrays and objects.")
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise MalformedBody(f"the body is nested deeper than {MAX_DEPTH} arrays and objects.")


def _load(text: str) -> Any:
    parse_float = _finite if _PERHAPS_HUGE.search(text) else None
    try:
        return json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=parse_float)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedBody(f"the body is not JSON: {error.msg.lower()} at {where}.")
    except ValueError:  # an integer of more digits than Python reads
        raise MalformedBody("a number in the body has thousands of digits.", hint="Numbers must fit a double.")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in value if times[name] > 1)
        raise MalformedBody(f"an object names {shorten(twice)} twice.", hint="Send each field once.")
    return value


def _constant(name: str) -> NoReturn:
    raise MalformedBody(f"{name} is not JSON.", hint="Numbers must be finite.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedBody(f"the number {shorten(text)} is too large.", hint="Numbers must fit a double.")
    return value


def _has_surrogate(value: object) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_has_surrogate(key) or _has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_surrogate, value))


def shorten(value: object, limit: int = 48) -> str:
    """A JSON value as text for a message, cut to ``limit`` characters; control characters escaped."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= limit else text[: limit - 1] + "…"
