"""Servers under test, as processes that are gone when the block is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx2

from benchmark.figures import OURS
from benchmark.streams import CHAT, body

CHECKOUT = Path(__file__).resolve().parents[2]
START_S = 300.0
STOP_S = 20.0


@dataclass(frozen=True)
class Setup:
    """What both servers are given alike."""

    model: Path
    threads: int
    context: int
    slots: int
    gpu_layers: int
    embeddings: bool = False
    """Start llama-server for embeddings, which then does nothing else; a node does both."""


class Memory(NamedTuple):
    """Resident bytes of a tree of processes: summed, and with shared pages divided (None where that is secret)."""

    rss: int
    pss: int | None


@dataclass(frozen=True)
class Running:
    """A server that has answered its first request, ``start_s`` after it was started."""

    url: str
    pid: int
    start_s: float

    def memory(self) -> Memory:
        """What the server and its children hold now."""
        held = list(tree(self.pid))
        shares = [_proportional(pid) for pid, _ in held]
        known = [share for share in shares if share is not None]
        return Memory(sum(resident for _, resident in held), sum(known) if len(known) == len(shares) else None)


class ServerError(Exception):
    """A server did not start; the message has its last words."""


def llama_server(program: Path, setup: Setup, port: int) -> list[str]:
    """The command that starts llama-server: unified KV cache, no web page, all else as it comes."""
    return [
        str(program), "--model", str(setup.model), "--host", "127.0.0.1", "--port", str(port), "--jinja",
        "--threads", str(setup.threads), "--threads-batch", str(setup.threads), "--ctx-size", str(setup.context),
        "--parallel", str(setup.slots), "--kv-unified", "--batch-size", "2048", "--ubatch-size", "512",
        "--n-gpu-layers", str(setup.gpu_layers), "--no-webui",
        *(["--embeddings", "--pooling", "mean"] if setup.embeddings else []),
    ]  # fmt: skip


def meshnode(home: Path, setup: Setup, port: int) -> list[str]:
    """The command that starts a node of this checkout."""
    return [
        sys.executable, "-m", "meshnode", "up", "--home", str(home), "--api", f"127.0.0.1:{port}",
        "--listen", "/ip4/127.0.0.1/tcp/0", "--model", str(setup.model), "--context", str(setup.context),
        "--slots", str(setup.slots), "--threads", str(setup.threads), "--engine-threads-batch", str(setup.threads),
        *(["--gpu-layers", str(setup.gpu_layers)] if setup.gpu_layers else ["--cpu"]),
    ]  # fmt: skip


@contextlib.contextmanager
def started(name: str, setup: Setup, program: Path | None) -> Iterator[Running]:
    """``llama-server`` (of ``program``) or ``meshnode``, on a free loopback port. Raises ServerError."""
    with (
        tempfile.TemporaryDirectory(prefix="meshnode-bench-") as folder,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        port = free.getsockname()[1]
        free.close()
        home = Path(folder) / "home"
        command = llama_server(program, setup, port) if program else meshnode(home, setup, port)
        with open(Path(folder) / "log", "w+b") as log:
            began = time.monotonic()
            process = _spawn(command, log.fileno())
            try:
                url = f"http://127.0.0.1:{port}"
                _await_answer(name, process, url, Path(log.name), setup)
                yield Running(url, process.pid, time.monotonic() - began)
            finally:
                _stop(process)


def interruptible() -> None:
    """SIGTERM does what Ctrl-C does, in the background too: trio unwinds, and servers are stopped on the way out."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _spawn(command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """In a session of its own, so that nothing it starts outlives it; without settings of another node."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MESHNODE_", "LLAMA_"))}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT, env=environment, start_new_session=True
    )


def _await_answer(name: str, process: subprocess.Popen[bytes], url: str, log: Path, setup: Setup) -> None:
    """Return once a request of one token has been answered."""
    asked: dict[str, object] = body("Hi", 1) | {"stream": False}
    del asked["stream_options"]
    path = CHAT
    if setup.embeddings and name != OURS:
        path, asked = "/v1/embeddings", {"input": "Hi"}
    deadline = time.monotonic() + START_S
    with httpx2.Client(base_url=url, trust_env=False, timeout=START_S) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                if client.post(path, json=asked).is_success:
                    return
            time.sleep(0.02)
    words = log.read_text(errors="replace")[-2000:]
    raise ServerError(f"{name} did not answer (status {process.poll()}). Its last words:\n{words}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then kill whatever is left of the session."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> Iterator[tuple[int, int]]:
    """A process and all its descendants (Linux), each with its resident bytes; the process itself comes first."""
    yield pid, _resident(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def _resident(pid: int) -> int:
    """Resident bytes of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _proportional(pid: int) -> int | None:
    """Its share of memory, where this user may know: a worker does not let itself be looked into."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
