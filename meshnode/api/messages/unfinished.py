"""The input of a tool call as an object, also where the call was cut off or is no JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_CLOSES: Final = {"{": "}", "[": "]"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def input_of(arguments: str) -> dict[str, Any]:
    """The object in ``arguments``; of text that was cut off, what was complete of it. Never raises."""
    for text in (arguments, *_endings(arguments)):
        if (found := _object(text)) is not None:
            return found
    return {}


def _endings(text: str) -> Iterator[str]:
    """The text as it might have gone on, the longest first: its strings, arrays and objects closed."""
    open_, quoted, escaped = "", False, False
    safe = (0, "")
    for place, char in enumerate(text):
        if quoted:
            quoted, escaped = escaped or char != '"', not escaped and char == "\\"
        elif char == '"':
            quoted = True
        elif char in _CLOSES:
            open_ += _CLOSES[char]
            safe = (place + 1, open_)
        elif char == ",":
            safe = (place, open_)
        elif char in "}]":
            open_ = open_[:-1]
    if quoted:
        yield text[: -1 if escaped else None] + '"' + open_[::-1]
    else:
        yield text + open_[::-1]
    yield text[: safe[0]] + safe[1][::-1]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
        shown = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    if _SURROGATE.search(shown):  # half a character cannot be sent on
        value = json.loads(_SURROGATE.sub("\ufffd", shown))
    return value if isinstance(value, dict) else None
