"""A node and the terminal it was started from: outputs that are closed, full or left, and a terminal that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshnode.client import open_client
from meshnode.client_records import Status
from meshnode.errors import NodeNotRunning
from tests.kit.node import command, environment

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0


def status_of(home: Path) -> Status | None:
    """The node's status; ``None`` while it does not answer."""
    try:
        with open_client(home) as node:
            return node.status()
    except NodeNotRunning:
        return None


def until(fact: Callable[[], bool]) -> None:
    """Poll a fact of another process until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@contextmanager
def started(home: Path, shell: str) -> Iterator[subprocess.Popen[bytes]]:
    """``meshnode up`` in a shell line, in which ``$0 "$@"`` is its command."""
    line = ["sh", "-c", shell, *command(home, "--no-engine")]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment())
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and /proc are Linux's")
@pytest.mark.parametrize(
    "shell",
    [
        'exec "$0" "$@" >&-',
        'exec "$0" "$@" 2>&-',
        'exec "$0" "$@" <&- >&- 2>&-',
        'exec "$0" "$@" >/dev/full',
        'exec "$0" "$@" 2>/dev/full',
    ],
)
def test_a_node_runs_whatever_its_output_is(tmp_path: Path, shell: str) -> None:
    home = tmp_path / "home"
    with started(home, shell) as process:
        until(lambda: status_of(home) is not None)
        kept = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        assert kept <= {"/dev/null", "/dev/full"}
        process.terminate()
        assert process.wait(20) == 0
    assert not (home / "crash.log").exists()


def test_a_reader_of_the_banner_that_left_is_not_missed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        line = command(home, "--no-engine")
        process = subprocess.Popen(line, stdout=stdout, stderr=subprocess.DEVNULL, env=environment())
    try:
        until(lambda: status_of(home) is not None)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)


def test_a_terminal_that_closes_ends_the_node_in_good_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with started(home, 'exec "$0" "$@"') as process:
        until(lambda: status_of(home) is not None)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
    assert not (home / "control.sock").exists()


def test_under_nohup_it_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with started(home, 'trap "" HUP; exec "$0" "$@"') as process:
        until(lambda: status_of(home) is not None)
        process.send_signal(signal.SIGHUP)
        status = status_of(home)
        assert status is not None
        assert not status.draining
        process.terminate()
        assert process.wait(20) == 0
