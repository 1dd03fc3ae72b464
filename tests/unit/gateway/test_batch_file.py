"""An input file as it is read: what is kept of it, what is refused, what makes it one that cannot be run."""

from __future__ import annotations

import pytest

from meshnode.domain import OWNER
from meshnode.gateway import batch_file
from meshnode.gateway.batch import MOST_LINE, Batch, BatchStatus, Line
from meshnode.gateway.batch_file import validate
from meshnode.gateway.live_batch import LiveBatch
from meshnode.storage.vault import contents
from tests.kit.batches import NOW, Kept, ScriptedWork, created, kept


async def read(there: Kept, content: bytes) -> tuple[Batch, list[str]]:
    """What becomes of a batch of this file, and the lines that were kept."""
    live = LiveBatch(there.vault, await created(there, content), there.wall)
    batch = await validate(there.files, there.vault, ScriptedWork(), live, NOW + 1)
    names: list[str] = []
    page = await live.lines_after(None)
    while page.items:
        names += [contents(item, Line).custom_id for item in page.items]
        page = await live.lines_after(page.items[-1].id)
    return batch, names


async def test_right_lines_are_kept_and_wrong_ones_get_their_row() -> None:
    async with kept() as there:
        batch, names = await read(there, b"a\n!b\n\nc\n!\nd")
        page = await there.vault.page(OWNER, "file_piece", part_of=batch.errors)
    assert names == ["a", "c", "d"]
    assert (batch.status, batch.total, batch.failed) == (BatchStatus.IN_PROGRESS, 5, 2)
    assert [item.data for item in page.items] == [b"b invalid_value\n", b"None invalid_value\n"]
    assert batch.error_bytes == sum(len(item.data) for item in page.items)


async def test_many_lines_are_written_down_in_several_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "PUT_ITEMS", 7)
    many = [f"line{number}" for number in range(50)]
    async with kept() as there:
        batch, names = await read(there, "\n".join(many).encode())
    assert names == many
    assert batch.total == 50


@pytest.mark.parametrize(("content", "line"), [(b"a\nb\na", 3), (b"a\n!a", 2), (b"!a\n\na", 3)])
async def test_a_name_that_comes_twice_fails_the_file_by_its_line(content: bytes, line: int) -> None:
    async with kept() as there:
        batch, _ = await read(there, content)
    assert batch.status is BatchStatus.FAILED
    assert [(fault.code, fault.line, fault.param) for fault in batch.faults] == [
        ("duplicate_custom_id", line, "custom_id")
    ]
    assert "line 1" in batch.faults[0].message


async def test_too_many_lines_fail_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "MOST_LINES", 2)
    async with kept() as there:
        batch, _ = await read(there, b"a\nb\nc\n")
    assert [(fault.code, fault.line) for fault in batch.faults] == [("too_many_requests", 3)]


async def test_a_line_that_is_too_long_fails_alone() -> None:
    async with kept() as there:
        batch, names = await read(there, b"a\n" + b"x" * (MOST_LINE + 1) + b"\nb")
        page = await there.vault.page(OWNER, "file_piece", part_of=batch.errors)
    assert names == ["a", "b"]
    assert [item.data for item in page.items] == [b"None body_too_large\n"]


async def test_a_file_that_was_deleted_meanwhile_fails_the_batch() -> None:
    async with kept() as there:
        live = LiveBatch(there.vault, await created(there, b"a"), there.wall)
        await there.files.delete(OWNER, live.batch.input_file)
        batch = await validate(there.files, there.vault, ScriptedWork(), live, NOW)
    assert [(fault.code, fault.param) for fault in batch.faults] == [("not_found", "input_file_id")]


async def test_reading_it_again_after_a_crash_leaves_nothing_of_the_first_time() -> None:
    async with kept() as there:
        live = LiveBatch(there.vault, await created(there, b"a\n!b\nc"), there.wall)
        first = await validate(there.files, there.vault, ScriptedWork(), live, NOW)
        counts = await there.vault.counts()
        assert await validate(there.files, there.vault, ScriptedWork(), live, NOW) == first
        assert await there.vault.counts() == counts
