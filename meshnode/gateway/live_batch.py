"""One batch that is not over, and what the vault holds of it: itself, its lines, the rows of its two files.

Each change is one transaction: an answer's row and that its line is done are on the disk together or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio

from meshnode.errors import NotFound
from meshnode.events import Usage
from meshnode.gateway import batch as rules
from meshnode.gateway.batch import Batch, BatchStatus, Line
from meshnode.gateway.files import BATCH_OUTPUT, StoredFile, head, piece
from meshnode.gateway.files import KIND as FILE
from meshnode.storage.vault import Item, Page, Vault

KIND: Final = "batch"
LINES: Final = "batch_lines"
LINE: Final = "batch_line"
LINES_AHEAD: Final = 8
"""Lines read from the disk at a time: each may be large."""


class LiveBatch:
    """``scope`` is around what is being done for it. ``now`` gives seconds since 1970.

    ``gone``: its principal's history was cleared, and the batch with it.
    """

    def __init__(self, vault: Vault, batch: Batch, now: Callable[[], float]) -> None:
        self.batch = batch
        self.scope = trio.CancelScope()
        self.gone = False
        self._vault = vault
        self._now = now
        self._lock = trio.Lock()

    @property
    def lines_id(self) -> str:
        """What its lines are parts of."""
        return f"{self.batch.id}/lines"

    async def change(self, change: Callable[[Batch], Batch], *, of: BatchStatus | None = None) -> None:
        """Write down what becomes of the batch, where it still has the status ``of``."""
        async with self._lock:
            if of in (None, self.batch.status):
                await self._write(change(self.batch))

    async def append(self, lines: Sequence[Line], rows: Sequence[bytes], usage: Usage | None = None) -> None:
        """Rows for lines that are done: of the output file where there is a ``usage``, else of the error file."""
        async with self._lock:
            batch = self.batch
            if usage is not None:
                changed, file, number = rules.answered(batch, usage, rows[0]), batch.outputs, batch.completed
            else:
                changed, file, number = rules.failed(batch, *rows), batch.errors, batch.failed
            pieces = [piece(batch.principal, file, number + at, row) for at, row in enumerate(rows)]
            await self._write(changed, *pieces, *(self.line_item(line.number, b"") for line in lines))

    async def _write(self, changed: Batch, *beside: Item) -> None:
        if await self._vault.replace(batch_item(changed), *beside):
            self.batch = changed
        else:
            self.gone = True
            self.scope.cancel()

    # --- lines ----------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Make room for its lines and files; what an earlier attempt left is dropped."""
        await self.tidy()
        who, id_ = self.batch.principal, self.lines_id
        files = (self.result(errors=errors, ready=False) for errors in (False, True))
        lines = Item(principal=who, kind=LINES, id=id_, part_of=self.batch.id, data=b"")
        await self._vault.put(lines, *(head(who, file) for file in files))

    async def lines_after(self, after: str | None) -> Page:
        """Some of its lines as they are kept; empty ones are done."""
        return await self._vault.page(self.batch.principal, LINE, part_of=self.lines_id, after=after, limit=LINES_AHEAD)

    def line_item(self, number: int, data: bytes) -> Item:
        """A line as the vault keeps it."""
        return Item(
            principal=self.batch.principal,
            kind=LINE,
            id=f"{self.lines_id}/{number:08d}",
            part_of=self.lines_id,
            data=data,
        )

    # --- the end --------------------------------------------------------------------------------

    async def end(self) -> None:
        """Its files are whole, and it is over; what it needed to get there is dropped."""
        async with self._lock:
            batch = self.batch
            heads = [
                head(batch.principal, self.result(errors=errors, ready=True))
                for errors, written in ((False, batch.output_bytes), (True, batch.error_bytes))
                if written
            ]
            await self._write(rules.ended(batch, self._now()), *heads)

    async def tidy(self) -> None:
        """Drop its lines, and the files that it will not have."""
        batch = self.batch
        failed = batch.status in (BatchStatus.FAILED, BatchStatus.VALIDATING)
        await self._forget(LINES, self.lines_id)
        for id_, written in ((batch.outputs, batch.output_bytes), (batch.errors, batch.error_bytes)):
            if failed or not written:
                await self._forget(FILE, id_)

    async def _forget(self, kind: str, id_: str) -> None:
        with suppress(NotFound):
            await self._vault.delete(self.batch.principal, kind, id_)

    def result(self, *, errors: bool, ready: bool) -> StoredFile:
        """One of its two files."""
        batch, now = self.batch, int(self._now())
        return StoredFile(
            id=batch.errors if errors else batch.outputs,
            filename=f"{batch.id}_{'error' if errors else 'output'}.jsonl",
            purpose=BATCH_OUTPUT,
            bytes=batch.error_bytes if errors else batch.output_bytes,
            created=now,
            expires=now + batch.output_s,
            ready=ready,
        )


def batch_item(batch: Batch) -> Item:
    """A batch as the vault keeps it; the node takes up what is unfinished when it starts."""
    return Item(
        principal=batch.principal,
        kind=KIND,
        id=batch.id,
        data=msgspec.msgpack.encode(batch),
        unfinished=not batch.status.over,
    )
