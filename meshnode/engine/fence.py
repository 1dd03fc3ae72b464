"""Bounds on code that came with a model file: so much CPU time, so much memory, while a block runs.

A sandbox decides what such code may touch; it does not keep it from looping or from filling memory. That is left to
the kernel, because no list of dangerous operations is ever whole:

- A timer interrupts the block every tenth of a second; once this thread has used its CPU time, :class:`TimeUp` is
  raised in the block. CPU time, because a busy or sleeping machine must not refuse an honest template.
- The address space may grow by so much (Linux; elsewhere only time is bounded). Past it, an allocation raises
  ``MemoryError``.
- Python sees a signal only between two of its instructions. What never leaves a C function is ended by the kernel, with
  the process: SIGPROF after ``backstop_s``. A worker that dies is one failed model.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

_TICK_S = 0.1
_STATM = Path("/proc/self/statm")


class TimeUp(BaseException):
    """The block used up its CPU time. Not an ``Exception``: nothing inside the block may take it for one of its own."""


class Fence:
    """``with Fence(cpu_s, memory):`` runs the block within so many seconds of CPU time and so many more bytes.

    Raises TimeUp or MemoryError in the block. Timers, handlers and limits are afterwards what they were before, but for
    SIGALRM, which from then on does nothing where nobody handled it. Main thread only, and never one inside another.
    ``tick_s`` is how often the clock is read.
    """

    def __init__(
        self,
        cpu_s: float,
        memory: int,
        *,
        backstop_s: float = 20.0,
        tick_s: float = 0.1,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._cpu_s = cpu_s
        self._memory = memory
        self._backstop_s = backstop_s
        self._tick_s = tick_s
        self._cpu_clock = cpu_clock
        self._armed = False
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._end = self._cpu_clock() + self._cpu_s
        with contextlib.ExitStack() as undo:
            _stop_collecting(undo)
            _limit_memory(self._memory, undo)
            _set_timer(signal.SIGPROF, signal.ITIMER_PROF, signal.SIG_DFL, self._backstop_s, undo)
            _set_timer(signal.SIGALRM, signal.ITIMER_REAL, self._ring, self._tick_s, undo)
            self._undo = undo.pop_all()
        self._armed = True

    def __exit__(self, *_raised: object) -> None:
        self._armed = False
        self._undo.close()

    def _ring(self, _signal: int, frame: FrameType | None) -> None:
        """End the block if its time is up. Not in ``__exit__``: an exception there would leave the fence standing."""
        while frame is not None and frame.f_code is Fence._ring.__code__:
            frame = frame.f_back  # a tick in the middle of a tick
        leaving = frame is not None and frame.f_code is Fence.__exit__.__code__
        if self._armed and not leaving and self._cpu_clock() > self._end:
            raise TimeUp


def _stop_collecting(undo: contextlib.ExitStack) -> None:
    """No garbage collection: what a signal handler raises while its callbacks run is lost."""
    if gc.isenabled():
        gc.disable()
        undo.callback(gc.enable)


def _let_pass(_signal: int, _frame: FrameType | None) -> None:
    """A tick that another thread took up comes after the timer has stopped; by default it would end the process."""


def _set_timer(
    number: signal.Signals,
    timer: int,
    handler: Callable[[int, FrameType | None], None] | signal.Handlers,
    every_s: float,
    undo: contextlib.ExitStack,
) -> None:
    """Let the timer send its signal to ``handler``; timer first, handler second when undone."""
    before = signal.signal(number, handler)
    unhandled = before in (None, signal.SIG_DFL) and number == signal.SIGALRM
    undo.callback(signal.signal, number, _let_pass if unhandled else before or signal.SIG_DFL)
    undo.callback(signal.setitimer, timer, *signal.setitimer(timer, every_s, every_s))


def _limit_memory(memory: int, undo: contextlib.ExitStack) -> None:
    """Let the address space grow by at most ``memory`` bytes; a lower limit that is already there stays."""
    try:
        used = int(_STATM.read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    lower = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([used + memory, *lower]), hard))
    undo.callback(resource.setrlimit, resource.RLIMIT_AS, (soft, hard))
