"""``meshnode chat`` at a real terminal, with real keys."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.fakenode import STATUS, FakeNode, fake_node

CHAT = "POST /v1/chat/completions"
CTRL_C = b"\x03"
CTRL_D = b"\x04"
LONGEST = 100_000


class Terminal(NamedTuple):
    """The keyboard and screen of a running ``meshnode chat``."""

    process: subprocess.Popen[bytes]
    descriptor: int

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.descriptor, keys)

    def see(self, words: bytes, within_s: float = 60.0) -> bytes:
        """Everything shown up to and with ``words``; raises TimeoutError when nothing more comes for so long."""
        shown = b""
        while words not in shown:
            assert len(shown) < LONGEST
            if not select.select([self.descriptor], [], [], within_s)[0]:
                raise TimeoutError(f"no {words!r} in {shown[-500:]!r}")
            shown += os.read(self.descriptor, 1)
        return shown

    def press_until(self, key: bytes, words: bytes) -> None:
        """Press ``key`` until ``words`` are shown: a signal that comes just before a read begins does not end it."""
        for _ in range(20):
            self.press(key)
            with contextlib.suppress(TimeoutError):
                self.see(words, within_s=3.0)
                return
        raise AssertionError(f"{words!r} was never shown")

    def end(self, key: bytes = b"") -> int:
        """Its exit code. ``key`` is pressed until it ends.

        More than once, as a person would: readline misses a signal that comes between its prompt and its first look
        at the keyboard.
        """
        for _ in range(60):
            self.press(key)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.5)
        raise AssertionError("it does not end")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with fake_node(tmp_path / "home") as node:
        node.json("GET /api/status", STATUS)
        yield node


@pytest.fixture
def terminal(node: FakeNode) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "meshnode", "chat", "a", "--home", str(node.home)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}
    # In a session of its own, whose terminal Ctrl-C goes to.
    take_over = (
        "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "signal.signal(signal.SIGINT, signal.SIG_DFL);"  # tests run in the background ignore it; so would their child
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", take_over, *line], stdin=theirs, stdout=theirs, stderr=theirs, env=clean,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def piece(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}"


def test_ctrl_c_stops_the_answer_at_the_node_too_and_the_talk_goes_on(node: FakeNode, terminal: Terminal) -> None:
    node.lines(CHAT, piece("Once upon"), hold=True)
    terminal.see(b">>> ")
    terminal.press(b"tell me a story\n")
    terminal.see(b"Once upon")
    terminal.press_until(CTRL_C, b"(stopped)")
    terminal.see(b">>> ")
    assert node.left.wait(30)
    node.lines(CHAT, piece("The end."), "data: [DONE]")
    terminal.press(b"go on\n")
    terminal.see(b"The end.")
    terminal.see(b">>> ")
    terminal.press(b"/bye\n")
    assert terminal.end() == 0
    assert [message["content"] for message in node.asked[-1].body["messages"]] == [
        "tell me a story",
        "Once upon",
        "go on",
    ]


@pytest.mark.parametrize(("key", "code"), [(CTRL_C, 130), (CTRL_D, 0)])
def test_at_the_prompt_ctrl_c_and_ctrl_d_leave(node: FakeNode, terminal: Terminal, key: bytes, code: int) -> None:
    terminal.see(b">>> ")
    assert terminal.end(key) == code
