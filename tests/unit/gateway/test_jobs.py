"""Jobs: answered though nobody waits, over restarts, each seen by its principal alone; on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import OWNER, CallerId
from meshnode.errors import DiskFull, Draining, HomeUnusable, NotFound, Overloaded, RateLimited
from meshnode.events import Failed, Finished, Queued, Started, TextDelta, Usage
from meshnode.gateway.job import JobStatus
from meshnode.gateway.jobs import KIND, LIMITS, TIDY_EVERY_S, Kept
from meshnode.storage.database import Database, open_inline
from meshnode.storage.vault import DAY_S, Item
from tests.kit.api import CARD, Scripted, Step, endless, spoken
from tests.kit.jobs import BORN, a_job, followed, open_desk

GUEST = CallerId("key:0123456789abcdef")
FOREVER: list[Step] = [Started(5), TextDelta("a"), trio.sleep_forever]


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_inline() as opened:
        yield opened


async def test_a_job_is_answered_and_its_answer_had_again(database: Database) -> None:
    job = a_job()
    async with open_desk(database, Scripted([Queued(1), *spoken("Hel", "lo")])) as desk:
        await desk.jobs.submit(job)
        events = await followed(desk.jobs, job)
        done = await desk.jobs.job(OWNER, job.id)
    assert isinstance(events[0], Started)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert isinstance(events[-1], Finished)
    assert (done.status, done.model, done.events) == (JobStatus.COMPLETED, CARD.id, tuple(events))
    assert done.ended is not None


async def test_what_was_deleted_is_not_changed_back_into_being(database: Database) -> None:
    async with open_desk(database, Scripted([])) as desk:
        await desk.jobs.keep(a_job())
        read = await desk.jobs.job(OWNER, "job_1")
        await desk.jobs.change(msgspec.structs.replace(read, echo='{"a": 1}'))
        assert (await desk.jobs.job(OWNER, "job_1")).echo == '{"a": 1}'
        await desk.jobs.delete(OWNER, "job_1")
        with pytest.raises(NotFound):
            await desk.jobs.change(read)
        with pytest.raises(NotFound):
            await desk.jobs.job(OWNER, "job_1")


async def test_a_job_that_is_over_is_followed_as_it_was_while_it_ran(database: Database) -> None:
    job = a_job()
    async with open_desk(database, Scripted(spoken(*"abcdef"))) as desk:
        await desk.jobs.submit(job)
        assert await followed(desk.jobs, job) == await followed(desk.jobs, job)


async def test_a_failure_is_its_last_event(database: Database) -> None:
    job = a_job()
    steps: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]
    async with open_desk(database, Scripted(steps)) as desk:
        await desk.jobs.submit(job)
        events = await followed(desk.jobs, job)
        assert (await desk.jobs.job(OWNER, job.id)).status is JobStatus.FAILED
    assert events[-1] == Failed("worker_died", "the worker died.")


async def test_a_defect_ends_the_job_not_the_node_and_tells_nothing(database: Database) -> None:
    job = a_job()
    async with open_desk(database, Scripted([Started(5), ValueError("SECRET")])) as desk:
        await desk.jobs.submit(job)
        (*_, last) = await followed(desk.jobs, job)
        await desk.jobs.submit(a_job("job_2"))
    assert isinstance(last, Failed)
    assert last.code == "internal_error"
    assert "SECRET" not in str(last)


async def test_a_running_job_shows_what_it_has_said_and_stops_when_it_is_cancelled(database: Database) -> None:
    job = a_job()
    async with open_desk(database, Scripted(FOREVER)) as desk:
        await desk.jobs.submit(job)
        async with desk.jobs.follow(OWNER, job.id) as events:
            assert [await anext(events), await anext(events)] == [Started(5), TextDelta("a")]
            running = await desk.jobs.job(OWNER, job.id)
            assert (running.status, running.model) == (JobStatus.IN_PROGRESS, CARD.id)
            cancelled = await desk.jobs.cancel(OWNER, job.id)
            assert [event async for event in events] == []
        assert desk.dispatcher.inside == 0
        assert cancelled.status is JobStatus.CANCELLED
        assert await desk.jobs.cancel(OWNER, job.id) == cancelled
        assert await desk.jobs.job(OWNER, job.id) == cancelled


async def test_one_that_waits_is_cancelled_without_having_begun(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as desk:
        await desk.jobs.submit(a_job("first"))
        await desk.jobs.submit(a_job("second"))
        await desk.dispatcher.entered.wait()
        assert (await desk.jobs.job(OWNER, "second")).status is JobStatus.QUEUED
        assert (await desk.jobs.cancel(OWNER, "second")).status is JobStatus.CANCELLED
        assert await followed(desk.jobs, a_job("second")) == []
        assert len(desk.dispatcher.requests) == 1


async def test_whoever_stops_one_that_waits_and_leaves_has_stopped_it(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as desk:
        for name in ("runs", "stopped", "deleted"):
            await desk.jobs.submit(a_job(name))
        await desk.dispatcher.entered.wait()
        for call, name in ((desk.jobs.cancel, "stopped"), (desk.jobs.delete, "deleted")):
            with trio.CancelScope() as left:
                left.cancel()
                await call(OWNER, name)
        assert (await desk.jobs.job(OWNER, "stopped")).status is JobStatus.CANCELLED
        with pytest.raises(NotFound):
            await desk.jobs.job(OWNER, "deleted")


async def test_a_deleted_job_stops_and_is_gone(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as desk:
        for name in ("runs", "waits"):
            await desk.jobs.submit(a_job(name))
        await desk.dispatcher.entered.wait()
        for name in ("waits", "runs"):
            await desk.jobs.delete(OWNER, name)
            for call in (desk.jobs.job, desk.jobs.delete, desk.jobs.cancel):
                with pytest.raises(NotFound):
                    await call(OWNER, name)
        assert desk.dispatcher.inside == 0
        assert await desk.vault.counts() == {}


async def test_to_another_principal_a_job_is_not_there(database: Database) -> None:
    job = a_job()
    async with open_desk(database, Scripted(FOREVER)) as desk:
        await desk.jobs.submit(job)
        await desk.dispatcher.entered.wait()
        for call in (desk.jobs.job, desk.jobs.delete, desk.jobs.cancel):
            with pytest.raises(NotFound):
                await call(GUEST, job.id)
        with pytest.raises(NotFound):
            async with desk.jobs.follow(GUEST, job.id):
                pass
        assert (await desk.jobs.jobs(GUEST)).jobs == ()
        assert (await desk.jobs.job(OWNER, job.id)).status is JobStatus.IN_PROGRESS


async def test_jobs_are_listed_in_pages_as_they_are(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER)) as desk:
        names = [f"job_{number}" for number in range(5)]
        for name in names:
            await desk.jobs.submit(a_job(name))
        await desk.jobs.cancel(OWNER, "job_4")
        first = await desk.jobs.jobs(OWNER, limit=3)
        rest = await desk.jobs.jobs(OWNER, after=first.jobs[-1].id, limit=3)
    assert [job.id for job in (*first.jobs, *rest.jobs)] == names[::-1]
    assert (first.more, rest.more) == (True, False)
    assert [job.status for job in first.jobs[:2]] == [JobStatus.CANCELLED, JobStatus.IN_PROGRESS]


async def test_a_principal_holds_a_bounded_number_of_unfinished_jobs_and_holds_up_nobody(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=2, unfinished=3)) as desk:
        for number in range(3):
            await desk.jobs.submit(a_job(f"job_{number}"))
        with pytest.raises(RateLimited):
            await desk.jobs.submit(a_job("one too many"))
        await desk.jobs.submit(a_job("guests", principal=GUEST))
        await desk.jobs.cancel(OWNER, "job_0")
        await trio.testing.wait_all_tasks_blocked()
        assert (await desk.jobs.job(GUEST, "guests")).status is JobStatus.IN_PROGRESS, "who has none goes first"
        assert (await desk.jobs.job(OWNER, "job_2")).status is JobStatus.QUEUED
        await desk.jobs.submit(a_job("job_3"))


async def test_many_that_come_at_once_pass_no_limit(database: Database) -> None:
    refused = 0

    async def submit(name: str) -> None:
        nonlocal refused
        try:
            await desk.jobs.submit(a_job(name))
        except RateLimited:
            refused += 1

    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(unfinished=3)) as desk:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(submit, f"job_{number}")
        assert refused == 7


# --- restarts -------------------------------------------------------------------------------------


async def test_what_was_unfinished_is_begun_anew_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "meshnode.db"
    async with open_inline(path) as database, open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as one:
        for name in ("runs", "waits"):
            await one.jobs.submit(a_job(name))
        await one.dispatcher.entered.wait()
    async with open_inline(path) as database, open_desk(database, Scripted(spoken("Hello"))) as two:
        for name in ("runs", "waits"):
            (_, said, *_) = await followed(two.jobs, a_job(name))
            assert said == TextDelta("Hello")
            assert (await two.jobs.job(OWNER, name)).status is JobStatus.COMPLETED
        assert len(two.dispatcher.requests) == 2
    async with open_inline(path) as database, open_desk(database, Scripted([])) as three:
        assert (await three.jobs.job(OWNER, "runs")).status is JobStatus.COMPLETED
        await trio.testing.wait_all_tasks_blocked()
        assert three.dispatcher.requests == []


async def test_a_stop_of_the_node_puts_jobs_back_uncounted_and_takes_no_more(database: Database) -> None:
    for _ in range(LIMITS.attempts + 1):
        async with open_desk(database, Scripted(FOREVER)) as desk:
            if not await desk.vault.counts():
                await desk.jobs.submit(a_job())
            async with desk.jobs.follow(OWNER, "job_1") as events:
                assert await anext(events) == Started(5)
                desk.draining.set()
                assert Failed not in [type(event) async for event in events]
            with pytest.raises(Draining):
                await desk.jobs.submit(a_job("late"))
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:
        assert isinstance((await followed(desk.jobs, a_job()))[-1], Finished)


async def test_a_node_that_stops_begins_none_of_those_that_wait(database: Database) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as desk:
        for name in ("runs", "waits"):
            await desk.jobs.submit(a_job(name))
        await desk.dispatcher.entered.wait()
        before = await desk.vault.get(OWNER, KIND, "waits")
        written: list[str] = []
        real = desk.vault.replace

        async def replace(item: Item, *beside: Item) -> bool:
            written.append(item.id)
            return await real(item, *beside)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(desk.vault, "replace", replace)
            desk.draining.set()
            await trio.testing.wait_all_tasks_blocked()
        assert written == ["runs"]
        assert await desk.vault.get(OWNER, KIND, "waits") == before


async def test_a_job_that_ends_the_node_each_time_is_given_up(database: Database) -> None:
    async def killed() -> None:
        async with open_desk(database, Scripted(FOREVER)) as desk:
            await desk.jobs.submit(a_job()) if not await desk.vault.counts() else None
            await desk.dispatcher.entered.wait()
            raise RuntimeError("the node was killed")

    for _ in range(LIMITS.attempts):
        with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
            await killed()
    async with open_desk(database, Scripted(FOREVER)) as desk:
        (last,) = await followed(desk.jobs, a_job())
        assert isinstance(last, Failed)
        assert (await desk.jobs.job(OWNER, "job_1")).status is JobStatus.FAILED
        assert desk.dispatcher.requests == []


async def test_a_job_of_another_version_is_one_lost_job(database: Database) -> None:
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:
        await desk.vault.put(Item(principal=OWNER, kind=KIND, id="odd", data=b"\xff", unfinished=True))
        await desk.jobs.submit(a_job())
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:
        assert isinstance((await followed(desk.jobs, a_job()))[-1], Finished)
        with pytest.raises(NotFound, match="lost"):
            await desk.jobs.job(OWNER, "odd")
        assert [job.id for job in (await desk.jobs.jobs(OWNER)).jobs] == ["job_1"]


# --- time and trouble -----------------------------------------------------------------------------


async def test_a_node_that_is_full_is_asked_again(database: Database, autojump_clock: MockClock) -> None:
    dispatcher = Scripted(spoken("Hello"), refusal=Overloaded("full"))
    async with open_desk(database, dispatcher) as desk:
        await desk.jobs.submit(a_job())
        await trio.sleep(3)
        dispatcher.refusal = None
        assert isinstance((await followed(desk.jobs, a_job()))[-1], Finished)


async def test_a_node_that_stays_full_is_the_jobs_failure(database: Database, autojump_clock: MockClock) -> None:
    async with open_desk(database, Scripted([], refusal=Overloaded("full"))) as desk:
        await desk.jobs.submit(a_job())
        assert await followed(desk.jobs, a_job()) == [Failed("overloaded", "full")]


async def test_a_deadline_counts_from_when_the_job_came(database: Database, autojump_clock: MockClock) -> None:
    async with open_desk(database, Scripted(FOREVER), LIMITS._replace(at_once=1)) as desk:
        await desk.jobs.submit(a_job("first"))
        for seconds in (100.0, 10.0):
            await desk.jobs.submit(a_job(f"within {seconds:g}", deadline_s=seconds))
        await desk.dispatcher.entered.wait()
        await trio.sleep(30)
        desk.dispatcher.steps = spoken("Hello")
        await desk.jobs.cancel(OWNER, "first")
        assert isinstance((await followed(desk.jobs, a_job("within 100")))[-1], Finished)
        assert desk.dispatcher.requests[1].deadline_s == pytest.approx(70)
        (late,) = await followed(desk.jobs, a_job("within 10"))
        assert isinstance(late, Failed)
        assert late.code == "deadline_exceeded"


async def test_a_job_that_cannot_be_read_ends_alone_and_is_tried_at_the_next_start(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:

        async def unreadable(principal: CallerId, kind: str, id_: str) -> Item:
            raise HomeUnusable("the disk reads nothing.")

        with monkeypatch.context() as patch:
            patch.setattr(desk.vault, "get", unreadable)
            await desk.jobs.submit(a_job())
            await trio.testing.wait_all_tasks_blocked()
        await desk.jobs.submit(a_job("job_2"))
        assert isinstance((await followed(desk.jobs, a_job("job_2")))[-1], Finished)
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:
        assert isinstance((await followed(desk.jobs, a_job()))[-1], Finished)


async def test_what_had_its_time_is_deleted(database: Database, autojump_clock: MockClock) -> None:
    async with open_desk(database, Scripted(spoken("Hello"))) as desk:
        await desk.jobs.submit(a_job())
        await followed(desk.jobs, a_job())
        await trio.sleep(31 * DAY_S)
        assert await desk.vault.clear() == {}


async def test_an_answer_that_cannot_be_written_is_had_and_written_later(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(database, Scripted([Started(5), trio.sleep_forever])) as desk:

        async def full(item: Item) -> bool:
            raise DiskFull("no space.")

        await desk.jobs.submit(a_job())
        await desk.dispatcher.entered.wait()
        with monkeypatch.context() as patch:
            patch.setattr(desk.vault, "replace", full)
            assert (await desk.jobs.cancel(OWNER, "job_1")).status is JobStatus.CANCELLED
            assert (await desk.jobs.job(OWNER, "job_1")).status is JobStatus.CANCELLED
            assert (await desk.jobs.jobs(OWNER)).jobs[0].status is JobStatus.CANCELLED
        await trio.sleep(TIDY_EVERY_S + 1)
        item = await desk.vault.get(OWNER, KIND, "job_1")
        assert msgspec.msgpack.decode(item.data, type=Kept).job.status is JobStatus.CANCELLED
        assert not item.unfinished


async def test_a_stored_answer_is_kept_as_it_is(database: Database) -> None:
    events = (Started(5), TextDelta("Hello"), Finished(Usage(5, 1)))
    job = msgspec.structs.replace(a_job(), status=JobStatus.COMPLETED, events=events, ended=BORN + 1)
    async with open_desk(database, Scripted([])) as desk:
        await desk.jobs.keep(job)
        assert await desk.jobs.job(OWNER, job.id) == job
        assert await followed(desk.jobs, job) == list(events)


async def test_an_endless_answer_is_cancelled_within_a_step(database: Database) -> None:
    async with open_desk(database, Scripted(endless(), forever=True)) as desk:
        await desk.jobs.submit(a_job())
        await desk.dispatcher.entered.wait()
        assert (await desk.jobs.cancel(OWNER, "job_1")).status is JobStatus.CANCELLED
        assert desk.dispatcher.inside == 0
