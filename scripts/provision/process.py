"""Child processes: their output line by line, and none of them left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

# Set by callers for reasons of their own; inside our environment they would send packages elsewhere.
_MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_ROOT")


PATIENCE_S = 3.0
"""How long a child may take to end when asked."""
_PR_SET_PDEATHSIG = 1


def child_environment(environ: Mapping[str, str], **extra: str) -> dict[str, str]:
    """``environ`` without what would mislead pip, and with ``extra``."""
    kept = {name: value for name, value in environ.items() if name not in _MISLEADING}
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    return {**kept, **quiet, "PYTHONUNBUFFERED": "1", **extra}


def run(
    command: Sequence[str],
    *,
    log: Path,
    environ: Mapping[str, str],
    each_line: Callable[[str], None] = lambda _: None,
    cwd: Path | None = None,
) -> int:
    """Runs ``command``, appends all it says to ``log``, and gives each line to ``each_line`` as it comes.

    Returns the exit status. Whatever ends this call early (Ctrl-C, a signal) ends the child and its children too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="replace") as file:
        file.write("$ " + " ".join(command) + "\n")
        with _started(command, environ, cwd) as child:
            assert child.stdout is not None
            for line in child.stdout:
                file.write(line)
                each_line(line.rstrip("\n"))
            return child.wait()


@contextlib.contextmanager
def _started(command: Sequence[str], environ: Mapping[str, str], cwd: Path | None) -> Iterator[subprocess.Popen[str]]:
    # A session of its own: a compiler's children are then one group that can be ended as a whole.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd=cwd,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            _end(child)
        if child.stdout is not None:
            child.stdout.close()


def _end(child: subprocess.Popen[str]) -> None:
    # Asked first: ninja puts its compilers into groups of their own, and ends them only if it may still act.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_S)


def _end_with_parent() -> None:
    """Runs in the child: on Linux a setup that is killed outright takes it along."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def last_words(log: Path, count: int = 5) -> tuple[str, ...]:
    """The lines of a log that say what went wrong: those that name an error, else the last ones."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if "error:" in line.lower() or "cmake error" in line.lower()]
    return tuple(line[:300] for line in (named[:count] or lines[-count:]))
