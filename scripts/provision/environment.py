"""The checkout's own .venv: made, filled from the locks, and remembered in a stamp."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from provision.faults import InstallFailed
from provision.places import Places
from provision.prerequisites import compiler_flags, python_version
from provision.process import child_environment, last_words, run
from provision.screen import Progress

EachLine = Callable[[str], None]

UNFINISHED = "setup-unfinished"
"""A file in .venv while packages are being written: what it is found in is not to be trusted."""


@dataclass(frozen=True)
class Stamp:
    """What .venv holds. Compared with what is wanted, it answers without asking pip."""

    python: str = ""
    checkout: str = ""
    locks: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""


def read_stamp(places: Places) -> Stamp:
    """The stamp of .venv; an empty one where there is none, or where the last setup did not finish."""
    if (places.venv / UNFINISHED).exists() or not places.python.exists() or not places.program.exists():
        return Stamp()
    try:
        return Stamp(**json.loads(places.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Stamp()


def lock_digest(places: Places, name: str) -> str:
    """What stands for a lock in the stamp: its own content, what it is installed with, and what meshnode installs."""
    parts = (places.lock_file("base"), places.lock_file(name), places.checkout / "pyproject.toml")
    return hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()


def is_current(places: Places, stamp: Stamp, name: str) -> bool:
    """Whether .venv holds what the lock ``name`` asks for, made here, by this Python."""
    here = stamp.python == python_version() and stamp.checkout == str(places.checkout)
    return here and stamp.locks.get(name) == lock_digest(places, name)


def fill(places: Places, stamp: Stamp, name: str, environ: Mapping[str, str]) -> Stamp:
    """Brings .venv to the state that the lock ``name`` ("run" or "test") asks for; returns its new stamp.

    Raises InstallFailed. The test lock holds all that the run lock does.
    """
    same = stamp.python == python_version() and stamp.checkout == str(places.checkout)
    log = places.cache / "logs" / "install.log"
    log.unlink(missing_ok=True)
    installer = Installer(places, environ, log)
    if not same:
        installer.make_venv()
        stamp = Stamp(python=python_version(), checkout=str(places.checkout))
    with installer.unfinished():
        installer.install_lock("base", "Preparing pip")
        installer.install_lock(name, f"Installing the locked packages ({name})")
        uncover_types(places)
        installer.pip("Installing meshnode", "--no-deps", "--no-build-isolation", "-e", str(places.checkout))
    held = {"test": ("run", "test")}.get(name, (name,))
    filled = replace(stamp, locks={**stamp.locks, **{each: lock_digest(places, each) for each in held}})
    write_stamp(places, filled)
    return filled


def uncover_types(places: Places) -> None:
    """Takes the stubs of an old trio out of .venv: they hide trio's own types from mypy.

    trio-typing brings them, and libp2p brings trio-typing, of which it uses only the part that is not stubs.
    """
    for stubs in places.venv.glob("lib/python*/site-packages/trio-stubs"):
        shutil.rmtree(stubs)


def write_stamp(places: Places, stamp: Stamp) -> None:
    """Remembers what .venv holds."""
    draft = places.stamp.with_suffix(".new")
    draft.write_text(json.dumps(asdict(stamp), indent=1), encoding="utf-8")
    draft.replace(places.stamp)


class Installer:
    """pip in .venv, with every word logged and a line of progress shown."""

    def __init__(self, places: Places, environ: Mapping[str, str], log: Path) -> None:
        self._places = places
        self._log = log
        self._environ = child_environment(environ, **compiler_flags(environ))

    def make_venv(self) -> None:
        """A fresh, empty .venv made by the interpreter under this one."""
        shutil.rmtree(self._places.venv, ignore_errors=True)
        base = str(getattr(sys, "_base_executable", sys.executable))
        with Progress(f"Making .venv with Python {python_version()}", clock=time.monotonic):
            self._run([base, "-m", "venv", str(self._places.venv)], "The Python environment .venv could not be made")

    @contextlib.contextmanager
    def unfinished(self) -> Iterator[None]:
        """Marks .venv while the block runs; the mark stays if the block does not end well."""
        mark = self._places.venv / UNFINISHED
        mark.touch()
        yield
        mark.unlink(missing_ok=True)

    def install_lock(self, name: str, title: str) -> None:
        """Installs exactly what a lock holds, each file checked against its hash."""
        lock = self._places.lock_file(name)
        count = sum(line[:1].isalnum() for line in lock.read_text(encoding="utf-8").splitlines())
        # Without build isolation, what comes as source is built with the locked setuptools and nothing newer.
        self.pip(title, "--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(lock), count=count)

    def pip(self, title: str, *arguments: str, count: int = 0) -> None:
        """``pip install`` with ``arguments``; ``count`` packages are expected."""
        seen = 0
        with Progress(title, clock=time.monotonic) as progress:

            def each_line(line: str) -> None:
                nonlocal seen
                if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
                    seen += 1
                    progress.update(min(seen, count), count)

            command = [str(self._places.python), "-m", "pip", "install", *arguments]
            self._run(command, f"{title} failed", each_line)

    def _run(self, command: list[str], what: str, each_line: EachLine = lambda _: None) -> None:
        status = run(command, log=self._log, environ=self._environ, each_line=each_line)
        if status != 0:
            raise InstallFailed(
                f"{what} (exit status {status}):",
                *(f"    {line}" for line in last_words(self._log)),
                f"The whole log: {self._log}. Mend the cause (often: no network) and run the same command again.",
            )
