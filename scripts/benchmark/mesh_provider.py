"""The provider of ``scripts/bench_mesh`` as a process: prints its address, and serves until its input ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from benchmark.mesh_node import open_node
from benchmark.nodes import NodeError, environment
from meshnode import observe
from meshnode.config import LogSettings
from meshnode.process import spare_collector
from meshnode.storage.database import open_threaded

MODEL: Final = "bench"
SCRIPTS: Final = Path(__file__).resolve().parents[1]
TICKS_PER_S: Final = 100
"""Linux' unit of the times in /proc, on every architecture (USER_HZ)."""


class Provider:
    """A running one, seen from the process that started it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU it has used, all threads."""
        return cpu_s(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextlib.contextmanager
def provider(folder: Path) -> Iterator[Provider]:
    """A provider whose books are in ``folder``; it is gone when the block is left. Raises NodeError."""
    command = [sys.executable, "-m", "benchmark.mesh_provider", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=SCRIPTS, env=environment(), text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise NodeError("the provider did not start.")
            yield Provider(process, address)
        finally:
            process.kill()


async def _serve(folder: Path) -> None:
    async with open_threaded(folder / "provider.db") as database, open_node(database, MODEL) as node:
        spare_collector()  # as a node does
        print(node.address, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


def main() -> None:
    """Serve."""
    observe.configure_logging(LogSettings(level="critical"), sys.stderr)
    trio.run(_serve, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
