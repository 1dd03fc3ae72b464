"""The door to child processes: how an engine worker is spawned, watched and reaped.

``trio.lowlevel.open_process`` spawns from a worker thread, and Linux sends PR_SET_PDEATHSIG (by which a worker dies
with its daemon) when the *thread* that spawned it ends, which trio's idle threads do after seconds. So a worker
is spawned here from the thread that runs trio.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import trio

import meshnode

WORKER = "meshnode.engine.worker"
_KEPT = frozenset(
    {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR", "XDG_RUNTIME_DIR"}
)
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "GOMP_", "HIP_", "HSA_", "KMP_", "OMP_", "ROCM_", "ROCR_", "VK_")


class Process(Protocol):
    """A running child, as the runner needs it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def errors(self) -> trio.abc.ReceiveStream:
        """Its standard error; the runner reads and closes it."""

    def kill(self) -> None:
        """End it now (SIGKILL). Harmless when it has ended."""

    async def wait(self) -> int:
        """Wait until it ends, and reap it: its exit status, negative for a signal. One waiter at a time."""


Spawn = Callable[[socket.socket], Process]
"""Starts a worker that speaks over its end of a socket pair. Raises OSError."""


class ChildProcess:
    """A :class:`Process` over ``subprocess.Popen``."""

    def __init__(self, popen: subprocess.Popen[bytes], errors: trio.abc.ReceiveStream) -> None:
        self._popen = popen
        self.errors = errors

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def kill(self) -> None:
        """End it now (SIGKILL). Harmless when it has ended."""
        self._popen.kill()

    async def wait(self) -> int:
        """Wait until it ends, and reap it."""
        await trio.lowlevel.checkpoint()
        if self._popen.poll() is None:
            descriptor = _pidfd(self._popen.pid)
            if descriptor is None:
                await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True)
            else:
                await _readable(descriptor)
        return self._popen.wait()


def _pidfd(pid: int) -> int | None:
    """A descriptor that is readable once our child has ended; None where the system or this Python has none."""
    try:
        return os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]  # Linux 5.3, and a Python built there
    except (AttributeError, OSError):
        return None


async def _readable(fd: int) -> None:
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)


def start(
    arguments: Sequence[str], *, environ: Mapping[str, str], stdout: int, fds: Sequence[int] = ()
) -> ChildProcess:
    """Start a program in a session of its own (a Ctrl-C at the terminal is the daemon's), its stderr in a pipe.

    ``stdout`` is a file descriptor or ``subprocess.DEVNULL``. Raises OSError.
    """
    ours, theirs = os.pipe()
    try:
        popen = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=theirs,
            pass_fds=fds,
            env=dict(environ),
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return ChildProcess(popen, trio.lowlevel.FdStream(ours))


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets to see of the daemon's environment: what loaders and GPU drivers read, no keys, no proxies.

    Python finds this very meshnode, nothing of the user's is loaded into it; threads are llama.cpp's affair, so the
    linear algebra under numpy gets one. The owner's own OpenMP settings are kept.
    """
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    fixed = {
        "PYTHONPATH": str(Path(meshnode.__file__).resolve().parent.parent),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    return kept | fixed


def worker_command(*arguments: str) -> tuple[str, ...]:
    """The command line of a worker."""
    return (sys.executable, "-m", WORKER, *arguments)


def worker_spawner(environ: Mapping[str, str], sandbox: bool = True, *, fake: bool = False) -> Spawn:
    """A :data:`Spawn` of real workers; ``fake`` gives those on the deterministic backend, without a model.

    Without ``sandbox`` they keep the rights of this process (see :mod:`meshnode.engine.confine`).
    """
    options = (("--fake",) if fake else ()) + (() if sandbox else ("--no-sandbox",))
    scrubbed = worker_environment(environ)

    def spawn(theirs: socket.socket) -> Process:
        fd = theirs.fileno()
        return start(worker_command(*options, str(fd)), fds=[fd], environ=scrubbed, stdout=subprocess.DEVNULL)

    return spawn


def exit_reason(status: int) -> str:
    """An exit status in words: ``was killed by SIGKILL``, ``exited with status 1``."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
