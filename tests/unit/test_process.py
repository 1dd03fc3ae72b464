"""Signals, open files and the canary."""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from meshnode.observe import Metrics
from meshnode.process import COLLECT_AFTER, LAG_EVERY_S, allow_connections, canary, spare_collector, watch_signals


@pytest.fixture
def _limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_limits")
def test_as_many_files_are_allowed_as_the_system_lets_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    allow_connections(64)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (1152 if hard == resource.RLIM_INFINITY else min(1152, hard))
    allow_connections(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft, "never lowered"


async def test_one_signal_asks_and_a_second_cancels() -> None:
    stop = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, scope)
            os.kill(os.getpid(), signal.SIGTERM)
            with trio.fail_after(10):
                await stop.wait()
            assert not scope.cancel_called
            os.kill(os.getpid(), signal.SIGINT)
            with trio.fail_after(10):
                await trio.sleep_forever()
    assert scope.cancelled_caught


def test_the_collector_is_spared() -> None:
    before = gc.get_threshold()
    try:
        spare_collector()
        assert gc.get_threshold()[0] == COLLECT_AFTER
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def test_the_canary_sings_at_its_times(autojump_clock: trio.testing.MockClock) -> None:
    metrics = Metrics()
    with trio.move_on_after(LAG_EVERY_S * 3.5):
        await canary(metrics)
    body, _ = metrics.render()
    assert b"loop_lag_seconds_count 3.0" in body
