"""Regular expressions as JSON Schema writes them (ECMA-262), rewritten for the library's engine, or refused. Pure.

Two dialects agree on most of what people write and differ silently on the rest: here every atom is read by ECMA's rules
(RFC 9485 shows how small the common part is) and written out in a form that has one meaning only. The library's engine
goes by derivatives, so nothing backtracks; what costs is size, and size is counted before anything is built.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

MAX_LENGTH = 20_000
"""Characters of one pattern."""
MAX_SIZE = 20_000
"""Atoms of one pattern with its repetitions written out."""
MAX_DEPTH = 50
"""Groups inside groups."""

_SHORTHANDS = {
    "d": "0-9",
    "w": "0-9A-Za-z_",
    "s": r"\t\n\x0B\x0C\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}",
}
"""ECMA-262 CharacterClassEscape, without its Unicode modes."""
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_COUNTS = re.compile(r"\{(\d{1,9})(?:(,)(\d{1,9})?)?\}")
_NAMED = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)")
_PROPERTY = re.compile(r"\{[A-Za-z_=]{1,60}\}")


class _Single(NamedTuple):
    """One character of a class, which may begin a range."""

    char: str


def rewrite(pattern: str, where: str, *, whole: bool = False) -> str:
    """The pattern in the engine's syntax, of the same meaning.

    ``whole`` is for a pattern that must match all of the text: anchors at its ends say nothing then and are left out.
    ``where`` names the keyword and its place for errors. Raises InvalidField for a pattern that is wrong or too large,
    UnsupportedParameter for lookaround, backreferences, word boundaries and inline flags.
    """
    if len(pattern) > MAX_LENGTH:
        raise too_complex(where, f"{len(pattern)} characters; {MAX_LENGTH} are the most")
    reader = _Reader(pattern, where, whole)
    size = reader.alternatives(0)
    if reader.more():
        raise wrong(where, f"a ) at character {reader.at} closes nothing")
    if size > MAX_SIZE:
        raise too_complex(where, f"{size} characters with its repetitions written out; {MAX_SIZE} are the most")
    return "".join(reader.out)


def escaped(text: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(map(_literal, text))


def _literal(char: str) -> str:
    return char if char.isascii() and char.isalnum() else rf"\x{{{ord(char):X}}}"


class _Reader:
    """Reads a pattern from left to right, writing it anew."""

    def __init__(self, text: str, where: str, whole: bool) -> None:
        self._text = text
        self._where = where
        self._whole = whole
        self.at = 0
        self.out: list[str] = []

    def more(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self._text)

    def _peek(self, ahead: int = 0) -> str:
        return self._text[self.at + ahead : self.at + ahead + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise wrong(self._where, "the pattern ends too early")
        self.at += 1
        return char

    def alternatives(self, depth: int) -> int:
        """Reads up to the group's end; returns the size, repetitions written out."""
        if depth > MAX_DEPTH:
            raise too_complex(self._where, f"groups more than {MAX_DEPTH} deep")
        size, start = 0, self.at
        while self.more() and self._peek() != ")":
            if self._peek() == "|":
                self.out.append(self._take())
                start, size = self.at, size + 1
            elif self._peek() in "^$":
                self._anchor(depth, first=self.at == start)
            else:
                size += self._quantified(self._atom(depth))
        return size

    def _anchor(self, depth: int, *, first: bool) -> None:
        char = self._take()
        if self._peek() and self._peek() in "*+?{":
            raise wrong(self._where, f"{char} cannot be repeated")
        if not self._whole:
            self.out.append(char)
        elif depth or (not first if char == "^" else self._peek() not in ("", "|")):
            raise not_held(self._where, f"{char} inside the pattern", "The whole text is matched: leave anchors out.")

    def _atom(self, depth: int) -> int:
        char = self._take()
        if char == "(":
            return self._group(depth)
        if char in "*+?":
            raise wrong(self._where, f"{char} at character {self.at - 1} repeats nothing")
        if char == "[":
            self.out.append(self._class())
        elif char == ".":
            self.out.append(r"[^\n\r\x{2028}\x{2029}]")
        elif char == "\\":
            found = self._escape()
            self.out.append(_literal(found.char) if isinstance(found, _Single) else f"[{found}]")
        else:
            self.out.append(_literal(char))
        return 1

    def _group(self, depth: int) -> int:
        if self._peek() == "?":
            named = _NAMED.match(self._text, self.at)
            if named is None:
                raise self._odd_group()
            self.at = named.end()
        self.out.append("(?:")
        size = self.alternatives(depth + 1)
        if not self.more():
            raise wrong(self._where, "a group is not closed")
        self._take()
        self.out.append(")")
        return size + 1

    def _odd_group(self) -> Exception:
        if self._peek(1) in ("=", "!") or (self._peek(1) == "<" and self._peek(2) in ("=", "!")):
            return not_held(self._where, "lookahead and lookbehind", "Write the pattern without them.")
        return not_held(self._where, f"(?{self._peek(1)}", "Use plain groups and no inline flags.")

    def _quantified(self, size: int) -> int:
        """Reads what repeats the atom just read; a lazy mark changes nothing about what is matched."""
        counts = _COUNTS.match(self._text, self.at)
        if self._peek() and self._peek() in "*+?":
            self.out.append(mark := self._take())
            size += mark == "+"
        elif counts:
            self.at = counts.end()
            size = self._counted(counts, size)
        else:
            return size
        if self._peek() == "?":
            self.at += 1
        if (self._peek() and self._peek() in "*+?") or _COUNTS.match(self._text, self.at):
            raise wrong(self._where, f"{self._peek()} at character {self.at} repeats a repetition")
        return size

    def _counted(self, counts: re.Match[str], size: int) -> int:
        least, comma, most = int(counts[1]), counts[2], counts[3]
        if most and int(most) < least:
            raise wrong(self._where, f"{counts[0]} has its bounds the wrong way round")
        size *= max(1, int(most or least))
        if size > MAX_SIZE:
            raise too_complex(self._where, f"{size} characters with its repetitions written out; {MAX_SIZE} at most")
        self.out.append(f"{{{least}{comma or ''}{int(most) if most else ''}}}")
        return size

    def _class(self) -> str:
        """A class after its ``[``; every character written by its number, so that none has a second meaning."""
        negated = self._peek() == "^"
        self.at += negated
        items: list[str] = []
        while (char := self._take()) != "]":
            first = self._class_item(char)
            if self._peek() == "-" and self._peek(1) not in ("]", ""):
                self.at += 1
                items.append(self._range(first, self._class_item(self._take())))
            else:
                items.append(_literal(first.char) if isinstance(first, _Single) else first)
        if not items:
            raise wrong(self._where, "a class [] is empty", r"Write \[ and \] for brackets.")
        return f"[{'^' if negated else ''}{''.join(items)}]"

    def _range(self, first: _Single | str, last: _Single | str) -> str:
        if not (isinstance(first, _Single) and isinstance(last, _Single)) or first.char > last.char:
            raise wrong(self._where, "a class has a range that is none")
        return f"{_literal(first.char)}-{_literal(last.char)}"

    def _class_item(self, char: str) -> _Single | str:
        if char != "\\":
            return _Single(char)
        if self._peek() == "b":
            self.at += 1
            return _Single("\b")
        return self._escape()

    def _escape(self) -> _Single | str:
        """One character, or the inside of a class."""
        char = self._take()
        if char in "dws":
            return _SHORTHANDS[char]
        if char in "DWS":
            return f"[^{_SHORTHANDS[char.lower()]}]"
        if char in _CONTROLS and not (char == "0" and self._peek().isdigit()):
            return _Single(_CONTROLS[char])
        if char in "pP" and (name := _PROPERTY.match(self._text, self.at)):
            self.at = name.end()
            return f"\\{char}{name[0]}"
        if char in "xu":
            return _Single(self._numbered(char))
        if char == "c" and re.fullmatch("[A-Za-z]", self._peek()):
            return _Single(chr(ord(self._take()) % 32))
        if char in "bBk" or char.isdigit():
            raise not_held(self._where, f"\\{char} (a word boundary or a backreference)", "Write it without.")
        if char.isalpha():
            raise wrong(self._where, f"\\{char} is no escape of ECMA-262")
        return _Single(char)

    def _numbered(self, kind: str) -> str:
        code = self._hex(kind)
        if 0xD800 <= code < 0xDC00 and self._text.startswith("\\u", self.at):
            self.at += 2
            code = 0x10000 + ((code - 0xD800) << 10) + (self._hex("u") - 0xDC00)
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code < 0xE000:
            raise wrong(self._where, f"\\{kind} names no character")
        return chr(code)

    def _hex(self, kind: str) -> int:
        form = r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{4})" if kind == "u" else r"([0-9A-Fa-f]{2})"
        found = re.compile(form).match(self._text, self.at)
        if found is None:
            raise wrong(self._where, f"\\{kind} needs its hexadecimal digits")
        self.at = found.end()
        return int(found[found.lastindex or 1], 16)
