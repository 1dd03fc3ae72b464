"""What the vault holds of a batch: each change is whole, and nothing is written for one that was cleared."""

from __future__ import annotations

import pytest

from meshnode.domain import OWNER
from meshnode.errors import InternalFault
from meshnode.events import Usage
from meshnode.gateway import batch as rules
from meshnode.gateway.batch import Batch, BatchStatus, Line
from meshnode.gateway.batch_file import validate
from meshnode.gateway.live_batch import LiveBatch, batch_item
from meshnode.storage.vault import contents
from tests.kit.batches import Kept, ScriptedWork, a_batch, content_of, created, kept


async def begun(there: Kept, content: bytes) -> LiveBatch:
    """A batch whose file was read."""
    live = LiveBatch(there.vault, await created(there, content), there.wall)
    read = await validate(there.files, there.vault, ScriptedWork(), live, there.wall())
    await live.change(lambda batch: read)
    return live


async def test_a_row_and_that_its_line_is_done_are_there_together() -> None:
    async with kept() as there:
        live = await begun(there, b"a\nb\n!c")
        lines = [contents(item, Line) for item in (await live.lines_after(None)).items]
        await live.append(lines[:1], [b"yes\n"], Usage(1, 1))
        await live.append(lines[1:], [b"no\n"])
        assert [item.data for item in (await live.lines_after(None)).items] == [b"", b""]
        assert contents(await there.vault.get(OWNER, "batch", live.batch.id), Batch) == live.batch
        await live.change(lambda batch: rules.moved(batch, BatchStatus.FINALIZING, 5))
        await live.end()
        await live.tidy()
        assert await content_of(there, live.batch.outputs) == "yes\n"
        assert await content_of(there, live.batch.errors) == "c invalid_value\nno\n"
        assert "batch_line" not in await there.vault.counts()


async def test_its_files_are_not_there_before_the_end() -> None:
    async with kept() as there:
        live = await begun(there, b"a\n!b")
        page = await there.files.page(OWNER, after=None, limit=9, newest_first=True)
        assert [file.id for file in page.files] == [live.batch.input_file]


async def test_a_change_is_for_the_status_it_was_meant_for() -> None:
    async with kept() as there:
        live = await begun(there, b"a")
        await live.change(lambda batch: rules.cancelling(batch, 5))
        await live.change(lambda batch: rules.moved(batch, BatchStatus.FINALIZING, 6), of=BatchStatus.IN_PROGRESS)
        assert live.batch.status is BatchStatus.CANCELLING
        with pytest.raises(InternalFault):
            await live.change(lambda batch: rules.moved(batch, BatchStatus.FINALIZING, 6))


async def test_nothing_is_written_for_a_batch_that_was_cleared() -> None:
    async with kept() as there:
        live = await begun(there, b"a")
        (item,) = (await live.lines_after(None)).items
        await there.vault.clear()
        await live.append([contents(item, Line)], [b"yes\n"], Usage(1, 1))
        assert live.gone
        assert live.scope.cancel_called
        assert await there.vault.counts() == {}


async def test_a_batch_that_failed_leaves_no_lines_and_no_files() -> None:
    async with kept() as there:
        live = await begun(there, b"a\n!b")
        await live.change(lambda batch: rules.broken(batch, (), 5))
        await live.tidy()
        assert await there.vault.counts() == {"batch": 1, "file": 1, "file_piece": 1}


def test_what_is_not_over_is_unfinished() -> None:
    batch = a_batch()
    assert batch_item(batch).unfinished
    assert not batch_item(rules.broken(batch, (), 1)).unfinished
    assert contents(batch_item(batch), Batch) == batch
