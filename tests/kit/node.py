"""A real node in a process of its own, as a person would start it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

START_S = 60.0


@dataclass
class Node:
    """A started node: its process, where its API is, and what it said when it was ready."""

    process: subprocess.Popen[bytes]
    home: Path
    ready: dict[str, Any]
    log_path: Path
    children: list[int] = field(default_factory=list)

    @property
    def api(self) -> str:
        """Base URL without ``/v1``."""
        url: str = self.ready["api"][0]
        return url.removesuffix("/v1")

    @property
    def log(self) -> str:
        """What it wrote on stderr so far."""
        return self.log_path.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """``/api/status``."""
        answer: dict[str, Any] = httpx2.get(f"{self.api}/api/status", timeout=10).raise_for_status().json()
        return answer

    def workers(self) -> list[int]:
        """Process ids of the engine workers that are alive."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [pid for pid in map(int, path.read_text().split()) if b"meshnode.engine.worker" in _command(pid)]

    @property
    def peer(self) -> str:
        """Its peer id."""
        return str(self.ready["peer_id"])

    @property
    def address(self) -> str:
        """Where peers reach it: the first address it tells."""
        return str(self.ready["addresses"][0])

    def meshnode(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What ``meshnode WORDS --home …`` does to it."""
        return meshnode(*words, "--home", str(self.home))

    def told(self, *words: str) -> dict[str, Any]:
        """What ``meshnode WORDS --json`` says of it; the command must succeed."""
        done = self.meshnode(*words, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def kill(self) -> None:
        """SIGKILL, as a power cut ends it."""
        self.stop(signal.SIGKILL)

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(timeout)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def command(home: Path, *flags: str) -> list[str]:
    """The command line of ``meshnode up`` on free ports of this machine; flags that name where to listen hold alone."""
    up = [sys.executable, "-m", "meshnode", "up", "--json", "--home", str(home), "--cpu"]
    listen = [] if "--listen" in flags else ["--listen", "/ip4/127.0.0.1/tcp/0"]
    return [*up, "--api", "127.0.0.1:0", *listen, *flags]


def meshnode(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of ``meshnode``, run to its end; what it says is kept as text."""
    line = [sys.executable, "-m", "meshnode", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), check=False)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without MESHNODE_* settings, with one engine thread (the machine is busy)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}
    return {**clean, "MESHNODE_THREADS": "1", "OMP_NUM_THREADS": "1", **extra}


@contextmanager
def running_node(home: Path, *flags: str, within: Sequence[str] = (), **extra: str) -> Iterator[Node]:
    """Start a node, wait until it says that it is ready, and end it (SIGTERM, then SIGKILL) afterwards.

    ``within`` is what is put before its command line, to run it in a network namespace; its log goes on where an
    earlier start on the same home ended.
    """
    log_path = home.parent / f"{home.name}.log"
    line = [*within, *command(home, *flags)]
    with log_path.open("ab") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, env=environment(**extra))
    try:
        yield Node(process, home, _read_ready(process, log_path), log_path)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _read_ready(process: subprocess.Popen[bytes], log_path: Path) -> dict[str, Any]:
    assert process.stdout is not None
    deadline, line = time.monotonic() + START_S, b""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.5)[0]:
            line = process.stdout.readline()
            if line.startswith(b"{"):
                ready: dict[str, Any] = json.loads(line)
                return ready
            if not line:
                break
    raise AssertionError(f"no ready line (exit {process.poll()}):\n{log_path.read_text(errors='replace')[-4000:]}")
