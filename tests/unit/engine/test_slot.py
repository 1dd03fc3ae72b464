"""One slot on its own: its states as they follow each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.domain import ModelCard
from meshnode.engine.back_off import BackOff
from meshnode.engine.pipe import Load
from meshnode.engine.runner import Engine, open_worker
from meshnode.engine.slot import OpenEngine, Slot
from meshnode.errors import DiskFull, ModelFailed
from tests.kit.engines import Stable
from tests.kit.requests import card
from tests.kit.workers import scripted


def slot_of(open_engine: OpenEngine, restarted: list[float]) -> Slot:
    """A slot that waits exactly ten seconds before it starts a worker again."""
    return Slot(
        card("a"),
        open_engine,
        back_off=BackOff(10.0, 10.0),
        chance=lambda: 0.5,
        restarted=lambda: restarted.append(trio.current_time()),
    )


async def test_it_goes_from_loading_to_ready_and_back(autojump_clock: MockClock) -> None:
    stable, restarted = Stable(load_s=4.0), list[float]()
    slot = slot_of(stable.open, restarted)
    began = trio.current_time()
    seen = [(slot.state.state, slot.state.progress)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.run)
        for moment in (2.5, 5.0, 6.0):
            await trio.sleep_until(began + moment)
            seen.append((slot.state.state, slot.state.progress))
        await stable.crash("a")
        await wait_all_tasks_blocked()
        seen.append((slot.state.state, slot.state.progress))
        assert slot.state.reason == "was killed"
        await stable.until_alive("a")
        await wait_all_tasks_blocked()
        assert slot.state.state == "ready"
        assert slot.state.restarts == 1
        slot.leave()
    assert seen == [("loading", 0), ("loading", 0.5), ("ready", 1), ("ready", 1), ("loading", 0)]
    assert restarted == [began + 16.0]
    assert (slot.state.state, slot.gone.is_set(), stable.alive) == ("unloaded", True, {})


async def test_what_the_kernel_had_not_for_the_sandbox_is_one_line_in_the_log() -> None:
    script = "INFO = msgspec.structs.replace(INFO, sandbox_missing=('landlock: not there',)); load(); hear()"

    def opened(_: ModelCard, progress: Callable[[float], None]) -> AbstractAsyncContextManager[Engine]:
        return open_worker(Load(path=""), spawn=scripted(script), progress=progress)

    slot = slot_of(opened, [])
    with capture_logs() as logged, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slot.run)
            while slot.state.state != "ready":
                await slot.changed.wait()
            slot.leave()
    told = [line for line in logged if line["event"] == "sandbox_incomplete"]
    assert [(line["log_level"], line["missing"]) for line in told] == [("warning", ("landlock: not there",))]


async def test_leaving_while_it_waits_to_start_again_ends_it(autojump_clock: MockClock) -> None:
    stable, restarted = Stable(), list[float]()
    slot = slot_of(stable.open, restarted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.run)
        await stable.crash("a")
        await wait_all_tasks_blocked()
        slot.leave()
        with trio.fail_after(1):
            await slot.gone.wait()
    assert restarted == []


async def test_it_loads_nothing_before_the_memory_of_others_is_free(autojump_clock: MockClock) -> None:
    stable, other = Stable(), trio.Event()
    slot = slot_of(stable.open, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.run, [other])
        await trio.sleep(100)
        assert (slot.state.state, stable.opened) == ("loading", [])
        other.set()
        await stable.until_alive("a")
        slot.leave()


async def test_what_an_opener_raises_is_the_reason_and_ends_every_wait(autojump_clock: MockClock) -> None:
    def full(_: ModelCard, __: Callable[[float], None]) -> AbstractAsyncContextManager[Engine]:
        raise DiskFull("no space for the model's cache.")

    slot = slot_of(full, [])
    changed = slot.changed
    await slot.run()
    assert changed.is_set()
    assert slot.state.state == "failed"
    assert slot.ending is not None
    assert slot.ending.code == ModelFailed.code
    assert "no space for the model's cache." in slot.ending.message
