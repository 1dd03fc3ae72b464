"""Follows a JSON value as it is written, and says where it ends or goes wrong. Pure.

RFC 8259 to the letter, but for one leniency: control characters that stand raw in a string, which models write when
they put code there, come out escaped, so that what comes out is always JSON, or a beginning of it. Nesting needs no
recursion and no more than a character each.
"""

from __future__ import annotations

import json
import re
from typing import Final

from meshnode.engine.replies.tape import Malformed

_WHITE: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_WORDS: Final = {"t": "true", "f": "false", "n": "null"}
_NUMBER: Final[dict[str, tuple[str, str]]] = {
    # state: pairs of the characters that follow and the state they lead to
    "-": ("0123456789", "ziiiiiiiii"),
    "z": (".eE", "pee"),
    "i": ("0123456789.eE", "iiiiiiiiiipee"),
    "p": ("0123456789", "ffffffffff"),
    "f": ("0123456789eE", "ffffffffffee"),
    "e": ("0123456789+-", "xxxxxxxxxxss"),
    "s": ("0123456789", "xxxxxxxxxx"),
    "x": ("0123456789", "xxxxxxxxxx"),
}
_WHOLE_NUMBER: Final = "zifx"


class JsonScan:
    """One JSON value that begins with one of the characters ``first``, without white space before it."""

    def __init__(self, first: str = '{["-0123456789tfn') -> None:
        self.done = False
        self._first = first
        self._open: list[str] = []
        self._state = "first"
        self._rest = ""

    def feed(self, text: str, start: int) -> tuple[int, str]:
        """Take from ``start`` what belongs to the value: the index after it, and what was taken as JSON.

        Raises Malformed at a character that cannot follow; what was valid before it was given back earlier, or is
        when that character comes first.
        """
        at, out = start, list[str]()
        while at < len(text) and not self.done:
            try:
                at = self._step(text, at, out)
            except Malformed:
                if at == start:
                    raise
                break
        return at, "".join(out)

    def _step(self, text: str, at: int, out: list[str]) -> int:
        """Take at least one character, or change the state."""
        if self._state == "string":
            return self._string(text, at, out)
        if self._state in ("escape", "hex"):
            return self._escape(text, at, out)
        if self._state == "word":
            return self._word(text, at, out)
        if self._state in _NUMBER:
            return self._number(text, at, out)
        return self._between(text, at, out)

    def _string(self, text: str, at: int, out: list[str]) -> int:
        end = _PLAIN.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string as well
        if end > at:
            out.append(text[at:end])
            return end
        if text[at] == '"':
            out.append('"')
            self._after_string()
        elif text[at] == "\\":
            out.append("\\")
            self._state = "escape"
        else:
            out.append(json.dumps(text[at])[1:-1])
        return at + 1

    def _after_string(self) -> None:
        if self._open and self._open[-1] == "k":
            self._open[-1] = "}"
            self._state = "colon"
        else:
            self._after_value()

    def _escape(self, text: str, at: int, out: list[str]) -> int:
        character = text[at]
        if self._state == "escape" and character == "u":
            self._state, self._rest = "hex", "...."
        elif self._state == "escape" and character in '"\\/bfnrt':
            self._state = "string"
        elif self._state == "hex" and character in "0123456789abcdefABCDEF":
            self._rest = self._rest[1:]
            self._state = "hex" if self._rest else "string"
        else:
            raise Malformed
        out.append(character)
        return at + 1

    def _word(self, text: str, at: int, out: list[str]) -> int:
        if text[at] != self._rest[0]:
            raise Malformed
        out.append(text[at])
        self._rest = self._rest[1:]
        if not self._rest:
            self._after_value()
        return at + 1

    def _number(self, text: str, at: int, out: list[str]) -> int:
        follows, states = _NUMBER[self._state]
        index = follows.find(text[at])
        if index >= 0:
            self._state = states[index]
            out.append(text[at])
            return at + 1
        if self._state not in _WHOLE_NUMBER:
            raise Malformed
        self._after_value()
        return at

    def _between(self, text: str, at: int, out: list[str]) -> int:
        """White space and what stands between values."""
        if self._state != "first":
            end = _WHITE.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string as well
            if end > at:
                out.append(text[at:end])
                return end
        character = text[at]
        self._punctuate(character)
        out.append(character)
        return at + 1

    def _punctuate(self, character: str) -> None:
        state = self._state
        if state == "colon" and character == ":":
            self._state = "value"
        elif state == "after" and character == ",":
            self._state = "key" if self._open[-1] == "}" else "value"
        elif character in "}]" and self._closes(character):
            self._open.pop()
            self._after_value()
        elif state in ("key", "key or end") and character == '"':
            self._open[-1] = "k"
            self._state = "string"
        elif state in ("value", "value or end") or (state == "first" and character in self._first):
            self._begin(character)
        else:
            raise Malformed

    def _closes(self, character: str) -> bool:
        wanted = {"}": ("key or end", "after"), "]": ("value or end", "after")}[character]
        return self._state in wanted and self._open[-1] == character

    def _begin(self, character: str) -> None:
        if character == "{":
            self._open.append("}")
            self._state = "key or end"
        elif character == "[":
            self._open.append("]")
            self._state = "value or end"
        elif character == '"':
            self._state = "string"
        elif character in _WORDS:
            self._state, self._rest = "word", _WORDS[character][1:]
        elif character == "-" or (character.isascii() and character.isdigit()):
            self._state = "-" if character == "-" else "z" if character == "0" else "i"
        else:
            raise Malformed

    def _after_value(self) -> None:
        self.done = not self._open
        self._state = "after"
