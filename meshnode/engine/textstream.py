"""Turns the bytes of tokens into text: whole characters only, and never a stop string. Pure.

Two things are held back: the bytes of a character that is not whole yet, and text that could be the beginning
of a stop string. Nothing else is, so that text leaves as early as it safely can. Stop strings are followed by
Knuth, Morris and Pratt's automaton (SIAM J. Comput. 6, 1977), one per string: constant work per character,
whatever a caller chose as stop strings, and the same outcome however the bytes are cut into tokens.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple


class Chunk(NamedTuple):
    """Text that may go out now; ``stop`` is the stop string that ended the stream (it is not part of ``text``)."""

    text: str
    stop: str | None


class _Matcher:
    """How much of the stop string ``word`` the text read so far ends with: ``matched`` characters."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.matched = 0
        self._borders = _borders(word)

    def read(self, character: str) -> bool:
        """Take one character; true when the stop string is complete."""
        matched = self.matched
        while matched and self.word[matched] != character:
            matched = self._borders[matched - 1]
        if self.word[matched] == character:
            matched += 1
        self.matched = matched
        return matched == len(self.word)


class TextStream:
    """One choice's output: bytes in, text out. Empty stop strings count as none.

    Of several stop strings the one that is complete first ends the stream; of those that become complete with
    the same character, the longest. Bytes that are not UTF-8 come out as U+FFFD, as ``bytes.decode`` with
    ``errors="replace"`` would have it.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        longest_first = sorted({word for word in stop if word}, key=len, reverse=True)
        self._matchers = tuple(_Matcher(word) for word in longest_first)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._ended: str | None = None

    def feed(self, data: bytes) -> Chunk:
        """Take the bytes of a token; give back what may go out. After a stop: no text, the same stop."""
        if self._ended is not None:
            return Chunk("", self._ended)
        return self._release(self._decoder.decode(data))

    def finish(self) -> Chunk:
        """There are no more tokens: give back everything held; half a character becomes U+FFFD."""
        if self._ended is not None:
            return Chunk("", self._ended)
        text, stop = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        for matcher in self._matchers:
            matcher.matched = 0
        return Chunk(text + held, stop)

    def _release(self, fresh: str) -> Chunk:
        """Split held and fresh text into what may go out and what is held on."""
        for index, character in enumerate(fresh):
            word = self._complete_at(character)
            if word is not None:
                text = self._held + fresh[: index + 1]
                self._held, self._ended = "", word
                return Chunk(text[: -len(word)], word)
        text = self._held + fresh
        keep = max((matcher.matched for matcher in self._matchers), default=0)
        self._held = text[len(text) - keep :]
        return Chunk(text[: len(text) - keep], None)

    def _complete_at(self, character: str) -> str | None:
        """Let every matcher read; the longest stop string that is complete now, if one is."""
        complete = [matcher.word for matcher in self._matchers if matcher.read(character)]
        return complete[0] if complete else None


def _borders(word: str) -> list[int]:
    """For each prefix of ``word``: the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(word)
    length = 0
    for index in range(1, len(word)):
        while length and word[index] != word[length]:
            length = borders[length - 1]
        if word[index] == word[length]:
            length += 1
        borders[index] = length
    return borders
