"""A batch of requests: what is known of it, how it moves from one status to the next, when a line is tried again. Pure.

Source: OpenAI's API reference for the Batch API; its statuses and what leads from one to the next.
"""

from __future__ import annotations

import codecs
import enum
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from meshnode.domain import CallerId, GenerationRequest, Record
from meshnode.errors import (
    Conflict,
    Draining,
    InternalFault,
    MeshnodeError,
    ModelLoading,
    ModelNotFound,
    NobodyServes,
    Overloaded,
    RequestError,
)
from meshnode.events import Usage

WINDOW_S: Final = 86_400
"""Seconds a batch has: its completion window of 24 hours."""
MOST_LINES: Final = 50_000
"""Requests of one batch, as OpenAI has it."""
MOST_LINE: Final = 4 << 20
"""Bytes of one line of an input file."""
MOST_UNFINISHED: Final = 32
"""Batches of one principal that are not over."""
MOST_TRIES: Final = 5
"""How often one line is begun where what it met may be its own doing: a worker that dies, say."""
MOST_FAULTS: Final = 100
"""Lines named in a batch's own list of errors."""
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 60.0
"""Between two tries of one line, at least and at most."""


class BatchStatus(enum.StrEnum):
    """How far a batch is (OpenAI's words)."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return not _NEXT[self]


_NEXT: Final[Mapping[BatchStatus, frozenset[BatchStatus]]] = {
    BatchStatus.VALIDATING: frozenset({BatchStatus.IN_PROGRESS, BatchStatus.FAILED, BatchStatus.CANCELLING}),
    BatchStatus.IN_PROGRESS: frozenset({BatchStatus.FINALIZING, BatchStatus.CANCELLING, BatchStatus.FAILED}),
    BatchStatus.FINALIZING: frozenset({BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.FAILED}),
    BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED, BatchStatus.FAILED}),
    BatchStatus.FAILED: frozenset(),
    BatchStatus.COMPLETED: frozenset(),
    BatchStatus.EXPIRED: frozenset(),
    BatchStatus.CANCELLED: frozenset(),
}


class Fault(Record, frozen=True):
    """What is wrong with a batch as a whole, or with the named line of its file; never what somebody wrote."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(Record, frozen=True):
    """One batch. Times in seconds since 1970; ``moments`` is when it came to each status.

    ``outputs`` and ``errors`` are the ids that its two files have once it is over, if they hold anything, and
    ``output_bytes`` and ``error_bytes`` what is in them; they live for ``output_s``. ``expiring``: its window passed,
    and what was not answered is being written down as that.
    """

    id: str
    principal: CallerId
    endpoint: str
    input_file: str
    outputs: str
    errors: str
    created: int
    expires: int
    output_s: int
    metadata: Mapping[str, str] | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    expiring: bool = False
    moments: Mapping[str, int] = {}
    faults: tuple[Fault, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    usage: Usage = Usage()

    @property
    def has_output(self) -> bool:
        """Whether its output file is there."""
        return self.status.over and self.status is not BatchStatus.FAILED and self.output_bytes > 0

    @property
    def has_errors(self) -> bool:
        """Whether its error file is there."""
        return self.status.over and self.status is not BatchStatus.FAILED and self.error_bytes > 0

    @property
    def left(self) -> int:
        """Lines that are neither answered nor failed."""
        return max(0, self.total - self.completed - self.failed)


class Line(Record, frozen=True):
    """One request of a batch, read: line ``number`` of its file, counted from 1.

    ``dialect`` is the path it is meant for, ``echo`` JSON text that its answer repeats. ``store``: the answer is to be
    had by its own id too.
    """

    number: int
    custom_id: str
    dialect: str
    request: GenerationRequest
    echo: str = "{}"
    store: bool = False


def moved(batch: Batch, status: BatchStatus, now: float) -> Batch:
    """The batch in its next status. Raises InternalFault where none leads there."""
    if status not in _NEXT[batch.status]:
        raise InternalFault(f"a batch does not go from {batch.status} to {status}.")
    return msgspec.structs.replace(batch, status=status, moments={**batch.moments, status.value: int(now)})


def cancelling(batch: Batch, now: float) -> Batch:
    """The batch with its end begun; one that is cancelled stays so. Raises Conflict where it ended otherwise."""
    if batch.status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        return batch
    if BatchStatus.CANCELLING not in _NEXT[batch.status]:
        raise Conflict(f"the batch is {batch.status} and cannot be cancelled.")
    return moved(batch, BatchStatus.CANCELLING, now)


def broken(batch: Batch, faults: tuple[Fault, ...], now: float) -> Batch:
    """The batch, failed for these reasons; of very many, the first."""
    return msgspec.structs.replace(moved(batch, BatchStatus.FAILED, now), faults=faults[:MOST_FAULTS])


def validated(batch: Batch, lines: int, refused: Refused, now: float) -> Batch:
    """The batch after its file was read: ``lines`` can be run, those ``refused`` cannot.

    A line that is wrong fails alone, but where no line is right it is the file that is.
    """
    if not lines:
        nothing = Fault(code="empty_file", message="the input file holds no request.", param="input_file_id")
        return broken(batch, tuple(refused.faults) or (nothing,), now)
    running = moved(batch, BatchStatus.IN_PROGRESS, now)
    return msgspec.structs.replace(
        running, total=lines + refused.lines, failed=refused.lines, error_bytes=refused.written
    )


class Refused:
    """The lines of a file that cannot be run: how many, how long the rows that say so are, the first faults."""

    def __init__(self) -> None:
        self.lines = 0
        self.written = 0
        self.faults: list[Fault] = []

    def add(self, fault: Fault, row: bytes) -> int:
        """One more; gives its place among them."""
        self.lines += 1
        self.written += len(row)
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)
        return self.lines - 1


def answered(batch: Batch, usage: Usage, row: bytes) -> Batch:
    """The batch with one line more answered, by this row of its output file."""
    before = msgspec.structs.asdict(batch.usage)
    total = Usage(**{name: before[name] + count for name, count in msgspec.structs.asdict(usage).items()})
    return msgspec.structs.replace(
        batch, completed=batch.completed + 1, output_bytes=batch.output_bytes + len(row), usage=total
    )


def failed(batch: Batch, *rows: bytes) -> Batch:
    """The batch with so many lines more failed, by these rows of its error file."""
    return msgspec.structs.replace(
        batch, failed=batch.failed + len(rows), error_bytes=batch.error_bytes + sum(map(len, rows))
    )


def ended(batch: Batch, now: float) -> Batch:
    """The batch in the last status of the road that it is on; lines that got lost on it are said to be."""
    if batch.status is BatchStatus.CANCELLING:
        return moved(batch, BatchStatus.CANCELLED, now)
    if batch.left:
        lost = Fault(code="lost", message=f"{batch.left} requests could not be read back from the disk.")
        batch = msgspec.structs.replace(batch, failed=batch.failed + batch.left, faults=(*batch.faults, lost))
    return moved(batch, BatchStatus.EXPIRED if batch.expiring else BatchStatus.COMPLETED, now)


def expired(batch: Batch, now: float) -> Batch:
    """The batch whose window passed."""
    if batch.status is BatchStatus.VALIDATING:
        late = Fault(code="batch_expired", message="the batch's window passed before its file was read.")
        return broken(batch, (late,), now)
    return msgspec.structs.replace(moved(batch, BatchStatus.FINALIZING, now), expiring=True)


_PASSING: Final = (Overloaded, ModelLoading, NobodyServes, Draining)
"""Errors that say nothing of the line: it is tried until the batch's window passes."""


def passing(error: MeshnodeError, *, settling: bool) -> bool:
    """Whether the error says nothing of the line, so that the try does not count.

    ``settling``: the node has just started, and its models and peers may still be on their way.
    """
    return isinstance(error, _PASSING) or (settling and isinstance(error, ModelNotFound))


def patience(error: MeshnodeError, tries: int, *, settling: bool = False) -> float | None:
    """Seconds until a line is tried again that failed, the ``tries`` that count done; ``None``: that is its answer."""
    if not passing(error, settling=settling) and (isinstance(error, RequestError) or tries >= MOST_TRIES):
        return None
    wait = error.retry_after_s if error.retry_after_s is not None else FIRST_WAIT_S * 2.0 ** min(tries, 5)
    return min(max(wait, FIRST_WAIT_S), LONGEST_WAIT_S)


class Splitter:
    """The lines of a file that comes in pieces, numbered from 1; blank ones are left out, too long ones ``None``."""

    def __init__(self, most: int = MOST_LINE) -> None:
        self._most = most
        self._number = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The lines that this piece ends."""
        *whole, rest = piece.split(b"\n")
        for part in whole:
            if part or self._size:
                self._hold(part)
                yield from self._line()
            else:
                self._number += 1
        self._hold(rest)

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """The line that the end of the file ends, if there is one."""
        yield from self._line()

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._most:
            self._held.append(part)

    def _line(self) -> Iterator[tuple[int, bytes | None]]:
        self._number += 1
        line = b"".join(self._held)
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        too_long = self._size > self._most
        self._held, self._size = [], 0
        if too_long:
            yield self._number, None
        elif line.strip():
            yield self._number, line
