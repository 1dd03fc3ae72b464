"""What a process notes as it goes, one fact a line, in a file that outlives its SIGKILL.

Each note is one ``write`` to a file opened with O_APPEND: once that returns, the kernel has it, whatever becomes of the
process (it would not survive a power cut). Each run of a process has a file of its own, so that only the last line of a
file can be torn.

A process can also be told to die at a point of its code: by SIGKILL, right after it has noted a fact of a kind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec


class Noted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of the facts. ``at`` is seconds of the machine's monotonic clock, the same in all processes."""

    at: float


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One channel as it stands in a database; ``confirmed_uc`` is what both signed."""

    chan: int
    seq: int
    uc: int
    prompt: int
    output: int
    requests: int
    confirmed_uc: int


class Marked(msgspec.Struct, frozen=True, array_like=True):
    """How far one request is paid, or was delivered: tokens of prompt computed, of prompt cached, of answer."""

    request: str
    prompt: int
    cached: int
    output: int


class Met(Noted, frozen=True):
    """The greeting is over, what the other showed is adopted: all channels with it as they are stored now."""

    rows: tuple[Row, ...]


class Asked(Noted, frozen=True):
    """The consumer begins a request."""

    request: str


class Ended(Noted, frozen=True):
    """The consumer's request is over; ``how`` is one word of :data:`HONEST_ENDS`, perhaps with a code after a colon."""

    request: str
    how: str


class Paying(Noted, frozen=True):
    """The consumer is about to sign a receipt: requests that it pays further than before, and how far."""

    marks: tuple[Marked, ...]


class Signed(Noted, frozen=True):
    """The consumer's ledger key signed a receipt's body; whether it will be stored is another question."""

    body: bytes


class Stored(Noted, frozen=True):
    """A receipt is acknowledged: the consumer may send it, or the provider lets the engine go on for it."""

    chan: int
    seq: int
    uc: int
    prompt: int
    output: int
    requests: int


class Confirmed(Noted, frozen=True):
    """A receipt with both signatures is acknowledged as stored."""

    chan: int
    seq: int
    uc: int


class Delivered(Noted, frozen=True):
    """What the provider's engine has computed of a request so far, noted before it is sent."""

    mark: Marked


class Accused(Noted, frozen=True):
    """This process says that the other broke the protocol."""

    reason: str


Fact = Met | Asked | Ended | Paying | Signed | Stored | Confirmed | Delivered | Accused

POINTS = {"consumer": (Met, Paying, Signed, Stored, Confirmed), "provider": (Met, Stored, Confirmed)}
"""Where a process can be told to die: what was adopted is stored but not used; nothing is signed yet; signed but not
stored; stored but not sent, or not released; countersigned and not sent, or confirmed."""

HONEST_ENDS = frozenset({"finished", "failed", "left", "refused"})
"""Ways for a request to end: with Finished, with Failed, left by its reader, with an exception of meshnode's tree."""

_DECODER: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)


def now() -> float:
    """The machine's monotonic clock, seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Diary:
    """Writes one file, from any thread. The file ``doom``, if there is one, names the kind of fact to die after."""

    def __init__(self, path: Path, doom: Path) -> None:
        self._doom = doom
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, fact: Fact) -> None:
        """Append a fact; when this returns, a SIGKILL cannot take it back."""
        os.write(self._fd, msgspec.json.encode(fact) + b"\n")
        if not isinstance(fact, Delivered):
            with contextlib.suppress(FileNotFoundError):
                if self._doom.read_text() == type(fact).__name__:
                    os.kill(os.getpid(), signal.SIGKILL)


class Reader:
    """Reads one file as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> list[Fact]:
        """Facts noted since the last call. A last line without its end waits; raises ValueError for other rubbish."""
        return list(self._decoded())

    def _decoded(self) -> Iterator[Fact]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield _DECODER.decode(line)
