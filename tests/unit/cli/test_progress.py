"""A pull's progress on a terminal and off it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from meshnode.cli.progress import PullDisplay, Screen
from meshnode.client_records import PullProgress

FETCH = [PullProgress(phase="fetch", done=done, total=1000) for done in range(0, 1001, 25)]


def test_on_a_terminal_there_is_one_bar_per_phase_and_then_none() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with PullDisplay(console) as display:
        for step in [*FETCH, PullProgress(phase="unpack", done=10, total=10), PullProgress(phase="done")]:
            display(step)
        assert not console._live_stack
    assert "Fetching" in screen.getvalue()
    assert "Unpacking" in screen.getvalue()


def test_off_a_terminal_there_are_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with PullDisplay(Console(file=io.StringIO())) as display:
        for step in FETCH:
            display(step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "Fetching: 1 kB of 1 kB (100 %)"


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("terminal", [True, False])
def test_nobody_who_looks_is_no_reason_to_break_off(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr("sys.stderr", Gone())
    with PullDisplay(Screen(file=Gone(), force_terminal=terminal)) as display:
        for step in [*FETCH, PullProgress(phase="done")]:
            display(step)


def test_an_unknown_total_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    with PullDisplay(Console(file=io.StringIO())) as display:
        for done in range(50):
            display(PullProgress(phase="fetch", done=done, total=None))
    assert capsys.readouterr().err == "Fetching: 0 B\n"


def test_breaking_off_gives_the_terminal_back() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with PullDisplay(console) as display:
        display(FETCH[0])
        assert console._live_stack
    assert not console._live_stack
