"""Reads a constraint's JSON within bounds, and finds places in it. Pure.

A schema comes from whoever may ask: its size, depth and numbers are checked here, before anything walks it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn
from urllib.parse import unquote

from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

MAX_BYTES = 256 * 1024
"""Of a constraint's source."""
MAX_DEPTH = 100
"""Brackets inside brackets; the library's JSON reader takes 128."""
EXACT = 1 << 53
"""Greatest whole number up to which the library, which counts in doubles, is exact."""

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_UNPAIRED = re.compile("[\ud800-\udfff]")


def load(source: str, what: str) -> Any:
    """The JSON value of ``source``. ``what`` names it in errors.

    Raises InvalidField where it is no JSON, holds half a surrogate pair or a number that is none, or is too large.
    """
    if len(source) > MAX_BYTES or len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise too_complex(what, f"its source has more than {MAX_BYTES} bytes")
    if depth(source) > MAX_DEPTH:
        raise too_complex(what, f"brackets more than {MAX_DEPTH} deep")

    def refuse(text: str) -> NoReturn:
        raise wrong(what, f"{text} is no number of JSON")

    def finite(text: str) -> float:
        number = float(text)
        return number if math.isfinite(number) else refuse(text)

    def whole(text: str) -> int:
        return int(text) if len(text) < 40 else refuse(f"{text[:10]}… ({len(text)} digits)")

    try:
        value = json.loads(source, parse_constant=refuse, parse_float=finite, parse_int=whole)
    except json.JSONDecodeError as error:
        raise wrong(what, f"not JSON: {error.msg} at character {error.pos}") from None
    if _UNPAIRED.search(source) or _UNPAIRED.search(json.dumps(value, ensure_ascii=False)):
        raise wrong(what, "half a surrogate pair is no character")
    return value


def depth(source: str) -> int:
    """How deep brackets nest in JSON text; strings do not count."""
    level = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRINGS.sub("", source)):
        level += 1 if bracket in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def find(root: Any, reference: str, where: str) -> tuple[Any, str]:
    """What a ``$ref`` names, and its place written one way only (RFC 6901 in a URI fragment).

    Raises UnsupportedParameter for anything but a pointer into this document: nothing is ever fetched.
    Raises InvalidField where the pointer leads nowhere.
    """
    if reference not in ("", "#") and not reference.startswith("#/"):
        shown = reference if len(reference) < 100 else reference[:100] + "…"
        raise not_held(f"{where} ({shown!r})", "only places in the same schema can be named", "Use #/$defs/NAME.")
    node, place = root, "#"
    for token in unquote(reference).split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and re.fullmatch("0|[1-9][0-9]{0,8}", name) and int(name) < len(node):
            node = node[int(name)]
        else:
            raise wrong(f"{where} ({reference!r})", "nothing stands there")
        place = below(place, name)
    return node, place


def below(place: str, name: str | int) -> str:
    """The JSON pointer of what stands under ``name`` at ``place``."""
    return f"{place}/{str(name).replace('~', '~0').replace('/', '~1')}"
