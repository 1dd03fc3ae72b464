"""The input file of a batch, read line by line: what can be run is kept, what cannot gets the row that says why.

A wrong line fails alone. A custom_id that comes twice, or too many lines, make the file one that cannot be run.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import msgspec
import trio

from meshnode.errors import BodyTooLarge, MeshnodeError, NotFound
from meshnode.events import Usage
from meshnode.gateway import batch as rules
from meshnode.gateway.batch import MOST_FAULTS, MOST_LINE, MOST_LINES, Batch, Fault, Line, Refused, Splitter
from meshnode.gateway.files import Files, piece
from meshnode.gateway.live_batch import LiveBatch
from meshnode.storage.vault import Item, Vault

STEP: Final = 1 << 15
"""Bytes that are looked at in one go: each could be a line."""
PUT_BYTES: Final = 1 << 20
PUT_ITEMS: Final = 256
"""What is collected before it is written down."""


class Answered(NamedTuple):
    """The row that a line gets in the output file, and what it took."""

    row: bytes
    usage: Usage


class NoLine(NamedTuple):
    """A line that cannot be run; ``custom_id`` where it has one."""

    custom_id: str | None
    error: MeshnodeError


class Work(Protocol):
    """What a batch needs of the dialects: to read a line, to answer it, to say that it failed."""

    async def read(self, batch: Batch, number: int, line: bytes) -> Line | NoLine:
        """The request in line ``number``."""

    async def answer(self, batch: Batch, line: Line) -> Answered:
        """The answer, whenever others leave room for it. Raises MeshnodeError."""

    def refusal(self, batch: Batch, number: int, custom_id: str | None, error: MeshnodeError) -> bytes:
        """The row of a line that failed."""

    def late(self, batch: Batch, line: Line) -> bytes:
        """The row of a line that was not answered in the batch's time."""


async def validate(files: Files, vault: Vault, work: Work, live: LiveBatch, now: float) -> Batch:
    """What becomes of the batch once its file is read; its lines are kept by then. Raises DiskFull."""
    batch = live.batch
    await live.begin()
    reading = Reading(vault, work, live)
    splitter = Splitter()
    try:
        file = await files.file(batch.principal, batch.input_file)
        async for data in files.content(batch.principal, file):
            for start in range(0, len(data), STEP):
                await trio.lowlevel.checkpoint()  # others go on while a long file is read
                for number, line in splitter.feed(data[start : start + STEP]):
                    await reading.take(number, line)
        for number, line in splitter.end():
            await reading.take(number, line)
    except NotFound:
        gone = Fault(code="not_found", message="the input file is gone, or damaged.", param="input_file_id")
        return rules.broken(batch, (gone,), now)
    await reading.flush()
    if reading.faults:
        return rules.broken(batch, tuple(reading.faults), now)
    return rules.validated(batch, reading.lines, reading.refused, now)


class Reading:
    """An input file as it is read."""

    def __init__(self, vault: Vault, work: Work, live: LiveBatch) -> None:
        self.lines = 0
        self.refused = Refused()
        self.faults: list[Fault] = []
        self._vault = vault
        self._work = work
        self._live = live
        self._seen: dict[str, int] = {}
        self._held: list[Item] = []
        self._size = 0

    async def take(self, number: int, line: bytes | None) -> None:
        """One line of the file; ``None`` is one that is too long."""
        await trio.lowlevel.checkpoint()
        if self.lines + self.refused.lines >= MOST_LINES:
            self._fault(
                Fault(code="too_many_requests", message=f"at most {MOST_LINES} requests are taken.", line=number)
            )
            return
        found = NoLine(None, _too_long()) if line is None else await self._work.read(self._live.batch, number, line)
        if (custom_id := found.custom_id) is not None:
            before = self._seen.setdefault(custom_id, number)
            if before != number:
                what = f"its custom_id is that of line {before} too."
                self._fault(Fault(code="duplicate_custom_id", message=what, line=number, param="custom_id"))
        await self._hold(self._refuse(number, found) if isinstance(found, NoLine) else self._keep(found))

    def _fault(self, fault: Fault) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def _keep(self, line: Line) -> Item:
        self.lines += 1
        return self._live.line_item(line.number, msgspec.msgpack.encode(line))

    def _refuse(self, number: int, refused: NoLine) -> Item:
        batch, error = self._live.batch, refused.error
        row = self._work.refusal(batch, number, refused.custom_id, error)
        place = self.refused.add(Fault(code=error.code, message=str(error), line=number, param=error.param), row)
        return piece(batch.principal, batch.errors, place, row)

    async def _hold(self, item: Item) -> None:
        self._held.append(item)
        self._size += len(item.data)
        if self._size >= PUT_BYTES or len(self._held) >= PUT_ITEMS:
            await self.flush()

    async def flush(self) -> None:
        """Write down what was collected, unless it is of no use any more."""
        held, self._held, self._size = self._held, [], 0
        if held and not self.faults:
            await self._vault.put(*held)


def _too_long() -> BodyTooLarge:
    return BodyTooLarge(f"the line is longer than {MOST_LINE} bytes.", hint="Send less in one request.")
