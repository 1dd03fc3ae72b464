"""What runs inside the fence ends, by an exception or with the process, and nothing of the fence stays behind."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from meshnode.engine.fence import Fence, TimeUp

MEGABYTE = 1 << 20
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
EXPONENTIAL = """
from meshnode.engine.fence import Fence
a, b = [1], [1]
for _ in range(60):
    a, b = [a, a], [b, b]
with Fence(0.1, 1 << 28, backstop_s=0.3):
    a == b
"""


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Handlers, timers and limits are the same before and after each test."""

    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPROF)]
        timers = [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)]
        return handlers, timers, resource.getrlimit(resource.RLIMIT_AS), gc.isenabled()

    with Fence(1, MEGABYTE):
        pass  # from here on a late SIGALRM does nothing
    before = state()
    yield
    assert state() == before


def spin() -> None:
    """Use up CPU time, and take every ordinary exception for one's own, as a template's machinery might."""
    while True:
        with contextlib.suppress(Exception):
            sum(range(1000))


def anew(_number: int) -> list[int]:
    """One more object."""
    return []


def test_a_loop_that_never_ends_is_ended() -> None:
    began = time.thread_time()
    with pytest.raises(TimeUp), Fence(0.1, 64 * MEGABYTE):
        spin()
    assert time.thread_time() - began < 2


def test_a_tick_while_the_block_is_left_does_not_leave_the_fence_standing() -> None:
    for _ in range(10):
        with pytest.raises(TimeUp), Fence(0.02, 256 * MEGABYTE, tick_s=0.001):
            list(map(anew, iter(int, 1)))  # to free it takes longer than a tick
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_runs_in_a_collection_of_garbage_does_not_swallow_the_end() -> None:
    def busy(_phase: str, _info: object) -> None:
        sum(range(100_000))

    gc.callbacks.append(busy)
    try:
        with pytest.raises(TimeUp), Fence(0.1, 256 * MEGABYTE):
            list(map(anew, iter(int, 1)))
    finally:
        gc.callbacks.remove(busy)


def test_a_tick_that_comes_late_does_nothing() -> None:
    with Fence(1, 64 * MEGABYTE):
        pass
    signal.raise_signal(signal.SIGALRM)


def test_a_handler_that_was_there_is_there_again() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    with Fence(1, 64 * MEGABYTE):
        pass
    signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


def test_waiting_is_not_counted() -> None:
    with Fence(0.05, 64 * MEGABYTE):
        assert not threading.Event().wait(0.4)


def test_the_time_is_this_threads_own() -> None:
    readings = iter([0.0, 0.5, 0.9, 1.1])
    with pytest.raises(TimeUp), Fence(1.0, 64 * MEGABYTE, cpu_clock=lambda: next(readings)):
        spin()
    assert next(readings, None) is None


@needs_proc
def test_memory_is_bounded_and_afterwards_free_again() -> None:
    with pytest.raises(MemoryError), Fence(1, 64 * MEGABYTE):
        bytearray(256 * MEGABYTE)
    with Fence(1, 64 * MEGABYTE):
        assert len(bytearray(8 * MEGABYTE)) == 8 * MEGABYTE
    assert len(bytearray(256 * MEGABYTE)) == 256 * MEGABYTE


@needs_proc
def test_a_lower_limit_that_is_there_already_stays() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low = 1 << 44
    resource.setrlimit(resource.RLIMIT_AS, (low, hard))
    try:
        with Fence(1, 1 << 50):
            assert resource.getrlimit(resource.RLIMIT_AS)[0] == low
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_errors_of_the_block_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), Fence(1, 64 * MEGABYTE):
        1 / 0  # noqa: B018 - the error is the point


def test_what_never_leaves_c_ends_with_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", EXPONENTIAL], capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGPROF
