"""A real worker process, spoken to over its pipe without trio."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import meshnode
from meshnode.engine.pipe import FromWorker, Load, Ready, ToWorker, decode_from_worker, encode
from meshnode.events import Event, Failed, Finished
from meshnode.wire.frames import FrameReader, pack

LIMIT = 2**26
PATIENCE_S = 60.0
"""For anything a worker has to do; nothing takes so long unless it hangs."""
COMMAND = (sys.executable, "-m", "meshnode.engine.worker")
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", ""),
    "PYTHONPATH": str(Path(meshnode.__file__).resolve().parent.parent),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class WorkerProcess:
    """The parent's side of one worker."""

    def __init__(self, popen: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.popen = popen
        self.sock = sock
        self._reader = FrameReader(limit=LIMIT)
        self._inbox: deque[FromWorker] = deque()

    def send(self, *messages: ToWorker) -> None:
        """Say something."""
        self.sock.sendall(b"".join(pack(encode(message), limit=LIMIT) for message in messages))

    def hear(self) -> FromWorker:
        """The next message. Raises EOFError when the worker has closed its end."""
        while not self._inbox:
            data = self.sock.recv(2**16)
            if not data:
                raise EOFError
            self._inbox += (decode_from_worker(payload) for payload in self._reader.feed(data))
        return self._inbox.popleft()

    def load(self, load: Load) -> Ready:
        """Load a model, past the progress."""
        self.send(load)
        while not isinstance(message := self.hear(), Ready):
            assert type(message).__name__ == "LoadProgress", message
        return message

    def events(self, number: int) -> Iterator[Event]:
        """Events of one request up to its last; those of others are dropped."""
        while True:
            message = self.hear()
            for owner, event in getattr(message, "events", ()):
                if owner == number:
                    yield event
                    if isinstance(event, Finished | Failed):
                        return

    def wait(self) -> int:
        """Its exit status."""
        return self.popen.wait(PATIENCE_S)


@contextmanager
def worker_process(*options: str, stderr: int | None = None) -> Iterator[WorkerProcess]:
    """A worker, killed at the end of the block if it still lives."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    fd = theirs.fileno()
    popen = subprocess.Popen([*COMMAND, *options, str(fd)], pass_fds=[fd], env=ENVIRONMENT, stderr=stderr)
    theirs.close()
    try:
        yield WorkerProcess(popen, ours)
    finally:
        ours.close()
        popen.kill()
        popen.wait()
        if popen.stderr is not None:
            popen.stderr.close()


def probe(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the worker as a command."""
    return subprocess.run(
        [*COMMAND, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def ended(pid: int) -> bool:
    """Wait for the end of a process that need not be a child; false if it still runs after :data:`PATIENCE_S`."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE_S)[0])
    finally:
        os.close(fd)
