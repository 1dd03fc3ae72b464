"""What setting up shows: one line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\]")
"""How ninja counts its steps: ``[17/92] Building CXX object …``."""


def say(text: str) -> None:
    """One line to the user; progress goes to standard error so that standard output stays the program's."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``75.2`` as ``1 min 15 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Progress:
    """A long step with a share done.

    On a terminal the line is rewritten in place; elsewhere (a log file, CI) a new line comes at every tenth.
    """

    def __init__(self, title: str, *, clock: Callable[[], float], stream: TextIO | None = None) -> None:
        self._title = title
        self._clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._moving = self._stream.isatty()
        self._tenth = -1
        self._began = 0.0

    def __enter__(self) -> Progress:
        """Says what begins."""
        self._began = self._clock()
        self._write(f"{self._title} …")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Says how long it took, or that it did not end well."""
        took = duration(self._clock() - self._began)
        self._write(f"{self._title}: {'done' if kind is None else 'stopped'} after {took}", last=True)

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Shows that ``done`` of ``total`` steps are behind us."""
        if total <= 0:
            return
        percent = min(100, 100 * done // total)
        if not self._moving and percent // 10 == self._tenth:
            return
        self._tenth = percent // 10
        took = duration(self._clock() - self._began)
        self._write(f"{self._title}: {percent} % ({done}/{total}), {took} {detail}".rstrip())

    def _write(self, line: str, *, last: bool = False) -> None:
        if self._moving:
            width = max(20, shutil.get_terminal_size().columns - 1)
            self._stream.write(f"\r\x1b[K{line[:width]}" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def ninja_step(line: str) -> tuple[int, int] | None:
    """(done, total) of a line of ninja's, or None."""
    found = NINJA.match(line)
    return (int(found[1]), int(found[2])) if found else None
