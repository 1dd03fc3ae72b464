"""Text that comes in parts, read as if it were whole. Pure.

What reads a reply is written as a generator that asks the tape for the next characters and is suspended until they
are there. It cannot see where the text was cut, so that what it finds cannot depend on it. Nothing is looked at twice
and no unread text piles up: the work is linear in the length of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Protocol, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A reader: suspended (yields) where it needs more text, returns a ``T``."""
Sink = Callable[[str], None]
"""Takes text as it is read."""
WHITE = " \t\r\n"
LONGEST_WORD = 256
"""Characters of a name, or of what else stands between two marks, at most."""


_NO_WORD = frozenset(("", "\n", "<"))


class Malformed(Exception):
    """What was read is not what its opening mark promised."""


class Scan(Protocol):
    """Takes what belongs to it from a text, see :class:`meshnode.engine.replies.jsontext.JsonScan`."""

    done: bool

    def feed(self, text: str, start: int) -> tuple[int, str]:
        """Take from ``start``: where it stopped, and what it makes of what it took. Raises Malformed."""


class Tape:
    """The text of a reply; ``write`` and ``close`` are the writer's, the generators the reader's.

    What is consumed is remembered until ``forget``: :meth:`unsaid` gives it back when it turns out to be no call.
    ``replayed`` characters at its beginning are the prompt's: they are read, but never given back.
    """

    def __init__(self, replayed: str = "") -> None:
        self.ended = False
        self._text = replayed
        self._at = 0
        self._prompt = len(replayed)
        self._unsaid: list[str] = []
        self._foreign = 0  # characters of the prompt at the beginning of what is unsaid

    def write(self, text: str) -> None:
        """More of the reply."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def close(self) -> None:
        """There is no more."""
        self.ended = True

    def forget(self) -> None:
        """What was consumed so far has become pieces, or was syntax."""
        self._unsaid.clear()
        self._foreign = 0

    def unsaid(self) -> str:
        """What was consumed since, as it was written; forgotten with that."""
        text = self.held()[self._foreign :]
        self.forget()
        return text

    def held(self) -> str:
        """The same, not forgotten, and with what the prompt said of it."""
        return "".join(self._unsaid)

    def peek(self) -> Steps[str]:
        """The next character, not consumed; empty at the end."""
        while self._at >= len(self._text):
            if self.ended:
                return ""
            yield
        return self._text[self._at]

    def skip(self) -> None:
        """Consume the character that was peeked at."""
        self._keep(1)

    def white(self) -> Steps[None]:
        """Consume white space."""
        while True:
            end = self._at
            while end < len(self._text) and self._text[end] in WHITE:
                end += 1
            if end > self._at:
                self._keep(end - self._at)
            if self._at < len(self._text) or self.ended:
                return
            yield

    def match(self, literals: tuple[str, ...], *, cut: bool = False) -> Steps[str]:
        """The one of ``literals`` that comes next, consumed; empty if none does. None may begin another one.

        With ``cut``, the beginning of one at the very end of the reply is consumed as well: syntax that was cut off.
        """
        while True:
            for literal in literals:
                if self._text.startswith(literal, self._at):
                    self._keep(len(literal))
                    return literal
            rest = self._text[self._at : self._at + max(map(len, literals), default=0)]
            begins = any(literal.startswith(rest) for literal in literals)
            if self.ended or not begins:
                if cut and begins:
                    self._keep(len(rest))
                return ""
            yield

    def expect(self, *literals: str) -> Steps[str]:
        """White space, then one of ``literals``, consumed. Raises Malformed if none comes."""
        yield from self.white()
        found = yield from self.match(literals)
        if not found:
            raise Malformed
        return found

    def word(self, ends: tuple[str, ...]) -> Steps[tuple[str, str]]:
        """What stands before the first of ``ends``, and which it is; both consumed.

        Raises Malformed where none comes in the same line, or another mark seems to begin first.
        """
        parts: list[str] = []
        length = 0
        while True:
            end = yield from self.match(ends)
            if end:
                return "".join(parts), end
            character = yield from self.peek()
            length += 1
            if character in _NO_WORD or length > LONGEST_WORD:
                raise Malformed
            parts.append(character)
            self.skip()

    def until(self, marks: tuple[str, ...], sink: Sink | None) -> Steps[str]:
        """Hand text to ``sink`` until one of ``marks`` comes, which is consumed and returned; empty at the end.

        Only what could be the beginning of a mark waits. Without a sink, the text stays unsaid.
        """
        known = _marks(marks)
        while True:
            text, at = self._text, self._at
            start, mark = known.find(text, at)
            if not mark and self.ended:
                start = len(text)
            if start > at and sink is None:
                self._keep(start - at)
            elif start > at and sink is not None:
                sink(self._advance(start - at))
            if mark:
                self._keep(len(mark))
                return mark
            if self.ended:
                return ""
            yield

    def pull(self, scan: Scan, sink: Sink) -> Steps[bool]:
        """Let ``scan`` take what belongs to it; false if the reply ended before it was done. Raises Malformed."""
        while not scan.done:
            if self._at >= len(self._text):
                if self.ended:
                    return False
                yield
                continue
            end, made = scan.feed(self._text, self._at)
            if end > self._at:
                self._keep(end - self._at)
            if made:
                sink(made)
        return True

    def _keep(self, count: int) -> None:
        """Consume characters that stay unsaid."""
        self._foreign += min(self._prompt, count)
        self._unsaid.append(self._advance(count))

    def _advance(self, count: int) -> str:
        taken = self._text[self._at : self._at + count]
        self._at += count
        self._prompt -= min(self._prompt, count)
        return taken


class _Marks:
    """Finds the first of several marks, or where one could begin."""

    def __init__(self, marks: tuple[str, ...]) -> None:
        self._any = re.compile("|".join(map(re.escape, marks)) or "(?!)")
        self._begins = frozenset(mark[:length] for mark in marks for length in range(1, len(mark)))
        self._firsts = frozenset(mark[0] for mark in marks)
        self._longest = max(map(len, marks), default=0)

    def find(self, text: str, start: int) -> tuple[int, str]:
        """Where the first mark stands and which; or where one could begin, or the text ends, and none."""
        found = self._any.search(text, start)
        if found is not None:
            return found.start(), found.group()
        for at in range(max(start, len(text) - self._longest + 1), len(text)):
            if text[at] in self._firsts and text[at:] in self._begins:
                return at, ""
        return len(text), ""


@lru_cache(maxsize=512)
def _marks(marks: tuple[str, ...]) -> _Marks:
    return _Marks(marks)
