"""Batches carried out: a few lines at a time, over restarts, until they are over, cancelled or late."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
import trio
import trio.lowlevel
import trio.testing

from meshnode.domain import OWNER, CallerId
from meshnode.errors import (
    Conflict,
    DiskFull,
    InternalFault,
    InvalidField,
    ModelNotFound,
    NobodyServes,
    NotFound,
    RateLimited,
    WorkerDied,
)
from meshnode.gateway import batch as rules
from meshnode.gateway.batch import MOST_TRIES, WINDOW_S, Batch, BatchStatus, Line
from meshnode.gateway.batch_file import Answered
from meshnode.gateway.batches import AT_ONCE, SETTLING_S, BatchPage, Creation, Standing
from meshnode.gateway.live_batch import KIND, LINES_AHEAD
from meshnode.storage.vault import DAY_S, Item
from tests.kit.batches import Outcome, ScriptedWork, Wall, carried_out, content_of, created, kept, over

GUEST = CallerId("key:0123456789abcdef")


def names(count: int) -> list[str]:
    return [f"line{number}" for number in range(count)]


async def test_every_line_is_answered_once_and_no_more_than_a_few_at_a_time() -> None:
    work = ScriptedWork()
    async with kept() as there, carried_out(there, work):
        batch = await over(there, await created(there, "\n".join(names(40)).encode()))
        text = await content_of(there, batch.outputs)
    assert sorted(work.asked) == sorted(text.split()) == sorted(names(40))
    assert work.most == AT_ONCE
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 40, 0)
    assert list(batch.moments) == ["in_progress", "finalizing", "completed"]


async def test_batches_take_turns() -> None:
    work = ScriptedWork()
    async with kept() as there:
        long = await created(there, "\n".join(names(100)).encode())
        short = await created(there, b"x\ny", GUEST)
        async with carried_out(there, work):
            await over(there, short)
            assert not (await there.batches.batch(OWNER, long.id)).status.over


async def test_after_a_kill_no_line_is_run_again_whose_answer_was_kept_and_none_is_left_out(tmp_path: Path) -> None:
    asked: list[str] = []
    lives = 0
    async with kept(tmp_path / "meshnode.db") as there:
        batch = await created(there, "\n".join(names(30)).encode())
    while True:
        lives += 1
        work = ScriptedWork()
        async with kept(tmp_path / "meshnode.db") as there, carried_out(there, work):
            while True:
                batch = await there.batches.batch(OWNER, batch.id)
                if batch.status.over or len(work.asked) >= 9:
                    break
                await trio.lowlevel.checkpoint()
            if batch.status.over:
                text = await content_of(there, batch.outputs)
        asked += work.asked
        if batch.status.over:
            break
    assert lives > 1
    assert sorted(text.split()) == sorted(names(30))
    assert set(asked) == set(names(30))
    assert len(asked) <= 30 + lives * AT_ONCE, "only what was under way is begun anew"


@pytest.mark.parametrize("status", [BatchStatus.VALIDATING, BatchStatus.CANCELLING, BatchStatus.FINALIZING])
async def test_whatever_it_was_at_it_is_taken_up_there(status: BatchStatus, tmp_path: Path) -> None:
    path = tmp_path / "meshnode.db"
    async with kept(path) as there:
        batch = await created(there, b"a\nb")
        if status is not BatchStatus.VALIDATING:
            work = ScriptedWork({"a": [trio.sleep_forever], "b": [trio.sleep_forever]})
            async with carried_out(there, work):
                await work.entered.wait()
            live = there.batches._live[batch.id]
            if status is BatchStatus.CANCELLING:
                await live.change(lambda one: rules.cancelling(one, 5))
            else:
                await live.change(lambda one: rules.expired(one, 5))
    async with kept(path) as there, carried_out(there, ScriptedWork()):
        batch = await over(there, batch)
        errors = await content_of(there, batch.errors) if batch.has_errors else ""
    ends = {
        BatchStatus.VALIDATING: (BatchStatus.COMPLETED, ""),
        BatchStatus.CANCELLING: (BatchStatus.CANCELLED, ""),
        BatchStatus.FINALIZING: (BatchStatus.EXPIRED, "a late\nb late\n"),
    }
    assert (batch.status, errors) == ends[status]


async def test_lines_that_are_lost_are_told_and_hold_up_none_behind_them(tmp_path: Path) -> None:
    path, lost = tmp_path / "meshnode.db", LINES_AHEAD + 1
    async with kept(path) as there:
        batch = await created(there, "\n".join(names(lost + 3)).encode())
        work = ScriptedWork({name: [trio.sleep_forever] for name in names(lost + 3)})
        async with carried_out(there, work):
            await work.entered.wait()
        live = there.batches._live[batch.id]
        await there.vault.put(*(live.line_item(number, b"\xff") for number in range(1, lost + 1)))
        await there.vault.put(Item(principal=OWNER, kind=KIND, id="batch_odd", data=b"\xff", unfinished=True))
    async with kept(path) as there, carried_out(there, ScriptedWork()):
        batch = await over(there, batch)
        assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 3, lost)
        assert batch.faults[0].code == "lost"
        assert (await there.batches.page(OWNER, after=None, limit=9)).batches == (batch,)


async def test_a_line_that_fails_fails_alone(autojump_clock: trio.testing.MockClock) -> None:
    work = ScriptedWork({"b": [InvalidField("wrong.")], "c": [WorkerDied("died.")] * MOST_TRIES})
    async with kept() as there, carried_out(there, work):
        batch = await over(there, await created(there, b"a\nb\nc"))
        assert await content_of(there, batch.outputs) == "a\n"
        assert await content_of(there, batch.errors) == "b invalid_value\nc worker_died\n"
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 1, 2)
    assert work.asked.count("c") == MOST_TRIES


async def test_what_passes_by_itself_is_waited_out_and_holds_up_nobody(autojump_clock: trio.testing.MockClock) -> None:
    nobody = [NobodyServes("none.")] * 50
    work = ScriptedWork({name: list(nobody) for name in names(AT_ONCE)})
    async with kept() as there, carried_out(there, work):
        waits = await created(there, "\n".join(names(AT_ONCE + 2)).encode())
        began = trio.current_time()
        await over(there, await created(there, b"x\ny", GUEST))
        assert trio.current_time() - began < 5
        batch = await over(there, waits)
    assert (batch.completed, batch.failed) == (AT_ONCE + 2, 0)


async def test_a_model_may_be_missing_for_a_while_after_a_start(autojump_clock: trio.testing.MockClock) -> None:
    missing: list[Outcome] = [ModelNotFound("none.") for _ in range(100)]
    work = ScriptedWork({"a": missing[:3], "b": missing[3:]})
    async with kept() as there, carried_out(there, work):
        batch = await over(there, await created(there, b"a\nb"))
        assert await content_of(there, batch.outputs) == "a\n"
        assert await content_of(there, batch.errors) == "b model_not_found\n"
        assert trio.current_time() >= SETTLING_S


async def test_a_batch_whose_window_passes_expires_with_a_row_for_what_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work = ScriptedWork({name: [trio.sleep_forever] for name in names(20)[1:]})
    async with kept(wall=Wall(goes=True)) as there, carried_out(there, work):
        batch = await created(there, "\n".join(names(20)).encode())
        await trio.sleep(WINDOW_S)
        batch = await over(there, batch)
        assert await content_of(there, batch.outputs) == "line0\n"
        assert await content_of(there, batch.errors) == "".join(f"{name} late\n" for name in names(20)[1:])
    assert (batch.status, batch.completed, batch.failed, batch.total) == (BatchStatus.EXPIRED, 1, 19, 20)
    assert batch.moments["expired"] == batch.created + WINDOW_S
    assert work.inside == 0


async def test_a_batch_that_is_cancelled_stops_and_keeps_what_it_has() -> None:
    work = ScriptedWork({name: [trio.sleep_forever] for name in names(20)[2:]})
    async with kept() as there, carried_out(there, work):
        batch = await created(there, "\n".join(names(20)).encode())
        while work.inside < AT_ONCE or (await there.batches.batch(OWNER, batch.id)).completed < 2:
            await trio.lowlevel.checkpoint()
        assert there.batches.standing() == Standing(1, AT_ONCE, 18 - AT_ONCE)
        assert (await there.batches.cancel(OWNER, batch.id)).status is BatchStatus.CANCELLING
        batch = await over(there, batch)
        assert work.inside == 0
        assert await there.batches.cancel(OWNER, batch.id) == batch
        assert sorted((await content_of(there, batch.outputs)).split()) == names(2)
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.CANCELLED, 2, 0)
    assert there.batches.standing() == Standing(0, 0, 0)


async def test_one_that_is_over_cannot_be_cancelled_and_nobody_cancels_anothers() -> None:
    async with kept() as there, carried_out(there, ScriptedWork()):
        batch = await over(there, await created(there, b"a"))
        with pytest.raises(Conflict):
            await there.batches.cancel(OWNER, batch.id)
        for who, id_ in ((GUEST, batch.id), (OWNER, "batch_none")):
            with pytest.raises(NotFound):
                await there.batches.cancel(who, id_)
        assert await there.batches.page(GUEST, after=None, limit=9) == BatchPage((), False)


async def test_batches_are_listed_newest_first() -> None:
    async with kept() as there:
        made = [await created(there, b"a") for _ in range(3)]
        first = await there.batches.page(OWNER, after=None, limit=2)
        rest = await there.batches.page(OWNER, after=first.batches[-1].id, limit=2)
    assert [*first.batches, *rest.batches] == made[::-1]
    assert (first.more, rest.more) == (True, False)


async def test_one_principal_has_so_many_that_are_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_UNFINISHED", 2)
    async with kept() as there:
        for _ in range(2):
            await created(there, b"a")
        await created(there, b"a", GUEST)
        with pytest.raises(RateLimited):
            await created(there, b"a")
        async with carried_out(there, ScriptedWork()):
            while there.batches.standing().batches:
                await trio.lowlevel.checkpoint()
            await created(there, b"a")


async def test_only_a_file_that_is_there_and_meant_for_it_makes_a_batch() -> None:
    async with kept() as there, carried_out(there, ScriptedWork()):
        batch = await over(there, await created(there, b"a"))
        for id_, kind in ((batch.outputs, InvalidField), ("file-none", NotFound)):
            with pytest.raises(kind) as caught:
                await there.batches.create(OWNER, Creation(id_, "/v1/chat/completions", DAY_S))
            assert caught.value.param == "input_file_id"


async def test_a_cleared_history_ends_its_batches() -> None:
    work = ScriptedWork()
    go = trio.Event()
    work.outcomes = {name: [go.wait] for name in names(20)}
    async with kept() as there, carried_out(there, work):
        await created(there, "\n".join(names(20)).encode())
        await work.entered.wait()
        await there.vault.clear()
        go.set()
        while there.batches.standing().batches:
            await trio.lowlevel.checkpoint()
        assert await there.vault.counts() == {}
    assert len(work.asked) <= 2 * AT_ONCE


async def test_an_answer_is_not_lost_when_the_disk_takes_nothing_for_a_while(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ScriptedWork()
    async with kept() as there:
        real, refusals = there.vault.replace, [DiskFull("full.") for _ in range(3)]

        async def replace(item: Item, *beside: Item) -> bool:
            if work.asked and refusals:
                raise refusals.pop()
            return await real(item, *beside)

        monkeypatch.setattr(there.vault, "replace", replace)
        async with carried_out(there, work):
            batch = await over(there, await created(there, b"a\nb"))
    assert (batch.status, batch.completed) == (BatchStatus.COMPLETED, 2)
    assert sorted(work.asked) == ["a", "b"]


async def test_a_defect_ends_the_batch_and_not_the_node(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ScriptedWork):
        async def answer(self, batch: Batch, line: Line) -> Answered:
            raise ZeroDivisionError("SECRET")

    with structlog.testing.capture_logs() as logs:
        async with kept() as there, carried_out(there, Broken()):
            batch = await over(there, await created(there, b"a"))
            assert there.batches.standing().batches == 0
    assert any("ZeroDivisionError" in str(line) for line in logs)
    assert not any("SECRET" in str(line) or "exc_info" in line for line in logs)
    assert batch.status is BatchStatus.FAILED
    assert batch.faults[0].code == InternalFault.code
    assert "SECRET" not in batch.faults[0].message


async def test_a_node_that_stops_leaves_what_is_under_way_for_later() -> None:
    work = ScriptedWork({"a": [trio.sleep_forever]})
    async with kept() as there:
        batch = await created(there, b"a\nb")
        async with carried_out(there, work) as draining:
            while (await there.batches.batch(OWNER, batch.id)).completed < 1:
                await trio.lowlevel.checkpoint()
            draining.set()
            while work.inside:
                await trio.lowlevel.checkpoint()
            await created(there, b"c")
        batch = await there.batches.batch(OWNER, batch.id)
        assert (batch.status, batch.completed, batch.failed) == (BatchStatus.IN_PROGRESS, 1, 0)
        assert "c" not in work.asked
