"""A watched task is heard to its end, stopped when nobody listens, and its errors are its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from meshnode.errors import PortInUse, SourceFailed
from meshnode.models.watch import alongside, watched

Report = Callable[[int], Awaitable[None]]


async def count_to_three(report: Report) -> None:
    """Report three numbers."""
    for number in (1, 2, 3):
        await report(number)


async def test_everything_reported_is_heard() -> None:
    async with watched(count_to_three) as numbers:
        assert [number async for number in numbers] == [1, 2, 3]


async def test_an_error_ends_the_iteration_as_itself() -> None:
    async def fail(report: Report) -> None:
        await report(1)
        raise SourceFailed("broken")

    async with watched(fail) as numbers:
        assert await anext(numbers) == 1
        with pytest.raises(SourceFailed, match="broken"):
            await anext(numbers)


async def test_leaving_stops_the_task() -> None:
    ended: list[str] = []

    async def count_for_ever(report: Report) -> None:
        try:
            while True:
                await report(0)
        finally:
            ended.append("stopped")

    with trio.fail_after(10):
        async with watched(count_for_ever) as numbers:
            await anext(numbers)
    assert ended == ["stopped"]


async def test_the_blocks_own_error_leaves_as_itself() -> None:
    with pytest.raises(PortInUse):
        async with watched(count_to_three):
            raise PortInUse("the block's own")
    with pytest.raises(PortInUse):
        async with alongside(trio.sleep_forever):
            raise PortInUse("the block's own")


async def test_a_defect_of_the_task_is_not_swallowed() -> None:
    async def defective(report: Report) -> None:
        raise ZeroDivisionError

    with trio.fail_after(10), pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with watched(defective) as numbers:
            await anext(numbers)
