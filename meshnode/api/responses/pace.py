"""In which pieces a text is streamed. Pure.

A stream that can be taken up again where it broke off (``starting_after``) must number its events the same each time it
is told, however the engine's steps fell. There a text is told word by word; elsewhere as it comes.
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"\s{0,24}\S{1,24}|\s{24}")
"""White space and the word after it, at most 24 characters each."""


class Pace:
    """One text on its way. ``steady``: its pieces depend on the text alone."""

    def __init__(self, *, steady: bool) -> None:
        self._steady = steady
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The pieces that can be told now."""
        if not self._steady:
            return [text] if text else []
        self._held += text
        return self._words(len(self._held) - 1)

    def flush(self) -> list[str]:
        """The pieces left when the text is whole."""
        rest = self._words(len(self._held))
        held, self._held = self._held, ""
        return [*rest, held] if held else rest

    def _words(self, limit: int) -> list[str]:
        """Words that end at ``limit`` or before: one that more text could lengthen is not a word yet."""
        words, begin = [], 0
        while (match := _WORD.match(self._held, begin)) is not None and match.end() <= limit:
            words.append(match[0])
            begin = match.end()
        self._held = self._held[begin:]
        return words
