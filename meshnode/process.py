"""What a node asks of the process it is: open files, signals, a collector that waits, and how late it is woken."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal

import structlog
import trio

from meshnode.observe import Metrics

LAG_EVERY_S = 0.25
"""How often the canary sleeps to see how late it is woken."""
FILES_OF_OUR_OWN = 1024
"""Descriptors kept for peers, workers, files and the database beside the API's connections."""
COLLECT_AFTER = 10_000
"""Objects made and not freed after which Python looks for cycles among them."""


def allow_connections(wanted: int) -> None:
    """Many systems allow a process 256 or 1,024 files unless it asks; each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 2 * wanted + FILES_OF_OUR_OWN
    if soft != resource.RLIM_INFINITY and soft < enough:
        with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (enough if hard == resource.RLIM_INFINITY else min(enough, hard), hard)
            )


def spare_collector() -> None:
    """Keep Python's collector of cycles from holding up streams, once everything is in place.

    What starting left is here to stay, and looking through it took 0.1 s each time. An engine step makes thousands of
    objects at once that are gone with the next: they are no reason to look either.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def watch_signals(
    stop: trio.Event, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stop`` at SIGINT, SIGTERM or SIGHUP (where that is not ignored); a second one cancels ``scope``."""
    asking = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it: stay when the terminal closes
        asking.add(signal.SIGHUP)
    with trio.open_signal_receiver(*asking) as signals:
        task_status.started()
        async for number in signals:
            structlog.get_logger().info("stopping", signal=signal.Signals(number).name, again=stop.is_set())
            if stop.is_set():
                scope.cancel()
            stop.set()


async def canary(metrics: Metrics) -> None:
    """Measure how late the event loop wakes a task: what every answer of this node is delayed by."""
    while True:
        due = trio.current_time() + LAG_EVERY_S
        await trio.sleep_until(due)
        metrics.loop_lag.observe(trio.current_time() - due)
