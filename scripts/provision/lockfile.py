"""One setup at a time: an advisory lock that the kernel lets go of when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from provision.screen import say


@contextlib.contextmanager
def held(path: Path, doing: str) -> Iterator[None]:
    """Holds ``path`` while the block runs; says so when another setup holds it, and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"Another setup is {doing}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
