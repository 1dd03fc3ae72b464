"""Sees numbers in JSON that do not end. Pure.

A small model that began ``0.000`` may write noughts until its tokens are used up: each is allowed, and each makes the
next more likely. No bound in a schema speaks of digits, so the run of digits is counted as the text is written, outside
strings, and after :data:`MOST` of them the number must end or go on in another way. A double has 17.
"""

from __future__ import annotations

MOST = 20
"""Digits one after another."""

_QUOTE, _BACKSLASH = b'"\\'


class Digits:
    """Counts digits one after another in JSON text that comes in pieces."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False
        self._run = 0

    def feed(self, piece: bytes) -> None:
        """The text goes on with ``piece``."""
        for byte in piece:
            if self._in_string:
                self._in_string = self._escaped or byte != _QUOTE
                self._escaped = byte == _BACKSLASH and not self._escaped
            elif 48 <= byte < 58:
                self._run += 1
            else:
                self._in_string = byte == _QUOTE
                self._run = 0

    @property
    def enough(self) -> bool:
        """Whether the number under way has all the digits it may have in a row."""
        return self._run >= MOST

    def copy(self) -> Digits:
        """The same place in another text."""
        other = Digits()
        other._in_string, other._escaped, other._run = self._in_string, self._escaped, self._run
        return other
