"""Nodes of this checkout as processes, for scripts that need several: started, asked, killed, and gone in the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

CHECKOUT = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 20.0


class NodeError(Exception):
    """A node did not do its part; the message has its last words."""


class Node:
    """One node on free loopback ports. ``home`` outlives the process, so that it can be started again.

    It meets those that it joins only, and not what else runs on this machine or its network. ``module`` is run instead
    of the command line's own, with the same arguments.
    """

    def __init__(self, name: str, folder: Path, *flags: str, module: str = "meshnode") -> None:
        self.name = name
        self._module = module
        self.home = folder / name
        self._flags = flags
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: dict[str, Any] = {}

    @property
    def api(self) -> str:
        """Base URL, ending in ``/v1``."""
        return str(self._ready["api"][0])

    @property
    def peer(self) -> str:
        """Its peer id."""
        return str(self._ready["peer_id"])

    @property
    def address(self) -> str:
        """Where peers reach it."""
        return str(self._ready["addresses"][0])

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    def start(self, *flags: str) -> float:
        """Start it; returns the seconds until it was ready. Raises NodeError."""
        command = [
            sys.executable, "-m", self._module, "up", "--json", "--home", str(self.home), "--cpu", "--api",
            "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-lan", *self._flags, *flags,
        ]  # fmt: skip
        began = time.monotonic()
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=CHECKOUT,
                env=environment(), start_new_session=True,
            )  # fmt: skip
        self._ready = self._await_ready()
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL, as a power cut ends it; its worker dies with it."""
        if self._process is not None:
            self._process.kill()
            self._forget()

    def stop(self) -> None:
        """Ask it to end, and make it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._forget()

    def suspend(self) -> None:
        """SIGSTOP: it hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def get(self, path: str) -> dict[str, Any]:
        """A JSON answer of its API, ``path`` such as ``/v1/models``."""
        with httpx2.Client(trust_env=False, timeout=30) as client:
            answer: dict[str, Any] = client.get(self.api.removesuffix("/v1") + path).json()
        return answer

    def command(self, *words: str) -> dict[str, Any]:
        """What ``meshnode WORDS --json`` says of it. Raises NodeError."""
        command = [sys.executable, "-m", "meshnode", *words, "--home", str(self.home), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment(), timeout=60)
        if done.returncode:
            raise NodeError(f"meshnode {' '.join(words)} on {self.name}: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def models(self) -> dict[str, int]:
        """Models it lists, and how many peers serve each."""
        return {str(one["id"]): len(one.get("providers", ())) for one in self.get("/v1/models")["data"]}

    def _await_ready(self) -> dict[str, Any]:
        assert self._process is not None
        out = self._process.stdout
        assert out is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if select.select([out], [], [], 0.2)[0] and (line := out.readline()).startswith(b"{"):
                ready: dict[str, Any] = json.loads(line)
                return ready
        words = self._log.read_text(errors="replace")[-2000:]
        raise NodeError(f"{self.name} did not start (status {self._process.poll()}). Its last words:\n{words}")

    def _forget(self) -> None:
        assert self._process is not None
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


@contextlib.contextmanager
def ended(nodes: Sequence[Node]) -> Iterator[None]:
    """All of them are gone when the block is left; SIGTERM leaves it too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        for node in nodes:
            node.stop()


def environment() -> dict[str, str]:
    """Without settings of another node, and with few OpenMP threads: several nodes share the cores."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "scripts")])
    return clean | {"OMP_NUM_THREADS": "1", "MESHNODE_THREADS": "1", "PYTHONPATH": paths}


def model_path(named: str | None) -> Path:
    """The model to serve: the one named, else SmolLM2 where ``scripts/test`` keeps it. Raises NodeError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "meshnode" / "models"
    path = Path(named or os.environ.get("MESHNODE_TEST_MODEL") or cache / "smollm2-135m-instruct-q4_1.gguf")
    if not path.is_file():
        raise NodeError(f"There is no model at {path}: scripts/setup --test fetches one, or name another with --model.")
    return path.resolve()
