"""Carries out batches: reads their files, answers a few lines at a time behind everybody else, leaves two files.

What is done is written down line by line (:mod:`meshnode.gateway.live_batch`), so that a node that is killed runs no
line again whose answer it kept, and leaves none out. The rules are in :mod:`meshnode.gateway.batch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import structlog
import trio

from meshnode.domain import CallerId
from meshnode.errors import InternalFault, InvalidField, MeshnodeError, NotFound, RateLimited
from meshnode.gateway import batch as rules
from meshnode.gateway.batch import Batch, BatchStatus, Fault, Line
from meshnode.gateway.batch_file import Answered, Work, validate
from meshnode.gateway.faults import as_error
from meshnode.gateway.files import BATCH, Files, new_file_id
from meshnode.gateway.live_batch import KIND, LiveBatch, batch_item
from meshnode.storage.vault import Page, Vault, contents, readable

AT_ONCE: Final = 4
"""Lines answered at a time, of all batches together; and of one batch, those that wait to be tried again included."""
DISK_PATIENCE_S: Final = 30.0
"""How long a batch rests when the disk takes nothing."""
SETTLING_S: Final = 120.0
"""How long after its start the node may still be looking for models and peers."""
_RUNNING: Final = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
_log = structlog.get_logger()


class Creation(NamedTuple):
    """What a client asks for; its files are to be kept for ``output_s``."""

    input_file: str
    endpoint: str
    output_s: int
    metadata: dict[str, str] | None = None


class BatchPage(NamedTuple):
    """Some batches, newest first, and whether there are more behind them."""

    batches: tuple[Batch, ...]
    more: bool


class Standing(NamedTuple):
    """How much there is to do: batches that are not over, their lines under way, and those that wait."""

    batches: int
    running: int
    waiting: int


class Batches:
    """The batches of everybody, each seen only by its principal. ``now`` gives seconds since 1970."""

    def __init__(
        self, vault: Vault, files: Files, *, entropy: Callable[[int], bytes], now: Callable[[], float]
    ) -> None:
        self._vault = vault
        self._files = files
        self._entropy = entropy
        self._now = now
        self._live: dict[str, LiveBatch] = {}
        self._start: Callable[[LiveBatch], None] = lambda live: None
        self._answering = trio.Semaphore(AT_ONCE)
        self._under_way = 0
        self._settled = -math.inf

    # --- what clients do ----------------------------------------------------------------------

    async def create(self, principal: CallerId, wanted: Creation) -> Batch:
        """Begin a batch. Raises NotFound (no such file), InvalidField, RateLimited, DiskFull."""
        try:
            file = await self._files.file(principal, wanted.input_file)
        except NotFound as error:
            raise NotFound(error.message, hint=error.hint, param="input_file_id") from None
        if file.purpose != BATCH:
            what = f"input_file_id names a file whose purpose is {file.purpose}."
            raise InvalidField(what, hint=f"Its purpose must be {BATCH}.", param="input_file_id")
        if sum(live.batch.principal == principal for live in self._live.values()) >= rules.MOST_UNFINISHED:
            what = f"{rules.MOST_UNFINISHED} of your batches are not over yet."
            raise RateLimited(what, hint="Wait for one, or cancel it.")
        live = LiveBatch(self._vault, self._made(principal, wanted), self._now)
        self._live[live.batch.id] = live
        try:
            await self._vault.put(batch_item(live.batch))
        except BaseException:
            del self._live[live.batch.id]
            raise
        self._start(live)
        return live.batch

    def _made(self, principal: CallerId, wanted: Creation) -> Batch:
        now = int(self._now())
        return Batch(
            id="batch_" + self._entropy(16).hex(),
            principal=principal,
            endpoint=wanted.endpoint,
            input_file=wanted.input_file,
            outputs=new_file_id(self._entropy),
            errors=new_file_id(self._entropy),
            created=now,
            expires=now + rules.WINDOW_S,
            output_s=wanted.output_s,
            metadata=wanted.metadata,
        )

    async def batch(self, principal: CallerId, id_: str) -> Batch:
        """The batch as it is now. Raises NotFound."""
        return contents(await self._vault.get(principal, KIND, id_), Batch)

    async def page(self, principal: CallerId, *, after: str | None, limit: int) -> BatchPage:
        """Batches, newest first. Raises NotFound where there is no batch ``after``."""
        page = await self._vault.page(principal, KIND, after=after, limit=limit, newest_first=True)
        return BatchPage(tuple(readable(page.items, Batch)), page.more)

    async def cancel(self, principal: CallerId, id_: str) -> Batch:
        """Stop it: lines under way end within a step. Raises NotFound, Conflict where it is over otherwise."""
        batch = await self.batch(principal, id_)
        live = self._live.get(id_)
        if live is None:
            return rules.cancelling(batch, self._now())
        await live.change(lambda one: rules.cancelling(one, self._now()))
        live.scope.cancel()
        return live.batch

    def standing(self) -> Standing:
        """How much there is to do now."""
        left = sum(live.batch.left for live in self._live.values())
        return Standing(len(self._live), self._under_way, max(0, left - self._under_way))

    # --- what the node does -------------------------------------------------------------------

    async def take_up(self) -> None:
        """Find what an earlier life of the node left; to be awaited before anybody can hand in anything."""
        try:
            await self._files.drop_unfinished()
            for ref in await self._vault.unfinished(KIND):
                with suppress(NotFound):  # damaged, or another version's: one lost batch
                    batch = await self.batch(ref.principal, ref.id)
                    self._live[batch.id] = LiveBatch(self._vault, batch, self._now)
        except MeshnodeError as error:
            _log.warning("batches_not_taken_up", code=error.code)

    async def run(self, work: Work, draining: trio.Event) -> None:
        """Carry them out until the node stops."""
        self._settled = trio.current_time() + SETTLING_S
        async with trio.open_nursery() as nursery:
            self._start = lambda live: nursery.start_soon(self._carry_out, work, live)
            for live in list(self._live.values()):
                self._start(live)
            await draining.wait()
            self._start = lambda live: None
            nursery.cancel_scope.cancel()

    async def forget(self) -> None:
        """Stop what is under way: everything that is kept is about to be thrown away."""
        await trio.lowlevel.checkpoint()
        for live in self._live.values():
            live.gone = True
            live.scope.cancel()

    async def _carry_out(self, work: Work, live: LiveBatch) -> None:
        """One batch to its end; trouble of the disk is waited out, a defect ends the batch and not the node."""
        while not (live.batch.status.over or live.gone):
            try:
                await self._step(work, live)
            except Exception as error:
                known = as_error(error, live.batch.id)
                if isinstance(known, InternalFault):
                    _log.error("batch_given_up", batch=live.batch.id)
                    await self._give_up(live)
                else:
                    _log.warning("batch_rests", batch=live.batch.id, code=known.code)
                    await trio.sleep(DISK_PATIENCE_S)
        del self._live[live.batch.id]

    async def _give_up(self, live: LiveBatch) -> None:
        fault = Fault(code=InternalFault.code, message="meshnode failed inside; this is a defect of it.")
        try:
            await live.change(lambda batch: rules.broken(batch, (fault,), self._now()))
        except MeshnodeError:
            live.gone = True  # taken up again at the next start

    async def _step(self, work: Work, live: LiveBatch) -> None:
        """What is to be done in the status that it has; ends early when that changes meanwhile, or its time passes."""
        status = live.batch.status
        ends = math.inf
        if status in _RUNNING:
            ends = trio.current_time() + max(0.0, live.batch.expires - self._now())
        live.scope = trio.CancelScope(deadline=ends)
        with live.scope:
            if status is BatchStatus.VALIDATING:
                await self._validate(work, live)
            elif status is BatchStatus.IN_PROGRESS:
                await self._answer(work, live)
            else:
                await self._end(work, live)
        if status in _RUNNING and self._now() >= live.batch.expires and not live.gone:
            await live.change(lambda batch: rules.expired(batch, self._now()), of=status)

    async def _validate(self, work: Work, live: LiveBatch) -> None:
        read = await validate(self._files, self._vault, work, live, self._now())
        await live.change(lambda batch: read, of=BatchStatus.VALIDATING)
        if live.batch.status is BatchStatus.FAILED:
            await live.tidy()

    async def _answer(self, work: Work, live: LiveBatch) -> None:
        own = trio.Semaphore(AT_ONCE)
        after: str | None = None
        more = True
        async with trio.open_nursery() as nursery:
            while more:
                page = await live.lines_after(after)
                more = page.more
                after = page.last
                for line in _open(page):
                    await own.acquire()
                    nursery.start_soon(self._answer_line, work, live, line, own)
        await live.change(
            lambda batch: rules.moved(batch, BatchStatus.FINALIZING, self._now()), of=BatchStatus.IN_PROGRESS
        )

    async def _answer_line(self, work: Work, live: LiveBatch, line: Line, own: trio.Semaphore) -> None:
        try:
            tries = 0
            while True:
                outcome = await self._try(work, live.batch, line)
                if isinstance(outcome, Answered):
                    break
                settling = trio.current_time() < self._settled
                tries += not rules.passing(outcome, settling=settling)
                wait = rules.patience(outcome, tries, settling=settling)
                if wait is None:
                    break
                await trio.sleep(wait)
            await self._note(work, live, line, outcome)
        finally:
            own.release()

    async def _try(self, work: Work, batch: Batch, line: Line) -> Answered | MeshnodeError:
        async with self._answering:
            self._under_way += 1
            try:
                return await work.answer(batch, line)
            except MeshnodeError as error:
                return error
            finally:
                self._under_way -= 1

    async def _note(self, work: Work, live: LiveBatch, line: Line, outcome: Answered | MeshnodeError) -> None:
        """Write the row, and that the line is done; where the disk takes nothing, again until it does."""
        while True:
            try:
                if isinstance(outcome, Answered):
                    await live.append([line], [outcome.row], outcome.usage)
                else:
                    await live.append([line], [work.refusal(live.batch, line.number, line.custom_id, outcome)])
                return
            except MeshnodeError as error:
                _log.warning("batch_line_not_kept", batch=live.batch.id, code=error.code)
                await trio.sleep(DISK_PATIENCE_S)

    async def _end(self, work: Work, live: LiveBatch) -> None:
        if live.batch.expiring:
            await self._write_off(work, live)
        if not live.gone:
            await live.end()
            await live.tidy()

    async def _write_off(self, work: Work, live: LiveBatch) -> None:
        """A row in the error file for each line that was not answered in time."""
        after: str | None = None
        more = True
        while more and not live.gone:
            page = await live.lines_after(after)
            more, after = page.more, page.last
            if lines := _open(page):
                await live.append(lines, [work.late(live.batch, line) for line in lines])


def _open(page: Page) -> list[Line]:
    """The lines of a page that are not done; those that were lost are told when the batch ends."""
    return readable((item for item in page.items if item.data), Line)
