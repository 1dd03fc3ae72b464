"""The sha256 of files of any size: in threads, with progress, cancellable between two blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from io import FileIO
from pathlib import Path
from typing import IO

import trio

from meshnode.models.store import translated

BLOCK = 16 << 20
"""Bytes handled before a cancellation or a progress report is looked at: some hundredths of a second."""

Report = Callable[[int, int | None], Awaitable[None]]
"""Told ``(bytes done, bytes in all if known)``."""


async def quiet(done: int, total: int | None) -> None:
    """A report that nobody reads."""


async def sha256_of(file: IO[bytes], size: int, report: Report = quiet) -> str:
    """Hex digest of ``file`` from where it stands to its end; ``size`` is only for the report."""
    digest = hashlib.sha256()
    done = 0

    def step() -> int:
        block = file.read(BLOCK)
        digest.update(block)
        return len(block)

    while count := await trio.to_thread.run_sync(step):
        done += count
        await report(done, size)
    return digest.hexdigest()


async def copy(source: IO[bytes], target: FileIO, beneath: Path, size: int, report: Report) -> tuple[int, str]:
    """Copy to the end of ``source``, or a block beyond ``size``; gives the bytes copied and their sha256.

    Errors of the target, which lies ``beneath`` the home, are translated (DiskFull, HomeUnusable); those of the source
    are not.
    """
    digest = hashlib.sha256()
    done = 0

    def step() -> int:
        block = source.read(BLOCK)
        digest.update(block)
        with translated(beneath):
            write_all(target, block)
        return len(block)

    while done <= size and (count := await trio.to_thread.run_sync(step)):
        done += count
        await report(min(done, size), size)
    return done, digest.hexdigest()


def write_all(target: FileIO, data: bytes) -> None:
    """Write every byte to an unbuffered file, whose own ``write`` may take fewer."""
    rest = memoryview(data)
    while rest:
        rest = rest[target.write(rest) :]
