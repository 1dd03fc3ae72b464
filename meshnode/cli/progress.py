"""How far a model's fetching is: a bar on a terminal, a few plain lines elsewhere; on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from meshnode.cli.show import size

DOING: Final = {"fetch": "Fetching", "verify": "Checking", "unpack": "Unpacking"}
STEP_PERCENT: Final = 10
"""How often there is a plain line."""


class PullStep(Protocol):
    """One report of a pull: ``phase`` is fetch, verify, unpack or done; ``done`` and ``total`` in bytes."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...


class Screen(Console):
    """A console that says with OSError that nobody reads it; rich would end the program, and close our stdout."""

    def on_broken_pipe(self) -> None:
        """Called by rich."""
        raise BrokenPipeError


class PullDisplay:
    """Shows the reports it is called with; nothing until the first, and clears up when the block is left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Screen(stderr=True)
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said = ("", -1)
        self._unseen = False

    def __enter__(self) -> PullDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, step: PullStep) -> None:
        """Show one report; after ``done`` the bar is gone."""
        if self._unseen:
            return
        try:
            if step.phase not in DOING:
                self.close()
            elif self._console.is_terminal:
                self._draw(step)
            else:
                self._tell(step)
        except OSError:  # the terminal was closed, or the reader has left: no reason to break off
            self._unseen = self._console.quiet = True

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._bar is not None and not self._unseen:
            self._bar.stop()
        self._bar = None
        self._tasks = {}

    def _draw(self, step: PullStep) -> None:
        if self._bar is None:
            what, speed, left = TextColumn("{task.description}"), TransferSpeedColumn(), TimeRemainingColumn()
            self._bar = Progress(what, BarColumn(), DownloadColumn(), speed, left, console=self._console)
            self._bar.start()
        if step.phase not in self._tasks:
            self._tasks[step.phase] = self._bar.add_task(DOING[step.phase], total=step.total)
        self._bar.update(self._tasks[step.phase], completed=step.done, total=step.total)

    def _tell(self, step: PullStep) -> None:
        percent = 100 * step.done // step.total if step.total else 0
        now = (step.phase, percent // STEP_PERCENT)
        if now != self._said:
            of = f" of {size(step.total)} ({percent} %)" if step.total else ""
            click.echo(f"{DOING[step.phase]}: {size(step.done)}{of}", err=True)
        self._said = now
