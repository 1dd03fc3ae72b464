"""What a batch has of the dialects: its lines are read, answered behind everybody else, and rendered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
import trio

from meshnode.api.batches.lines import (
    Unusable,
    Wanted,
    answered_row,
    asker_of,
    late_row,
    parse_line,
    refused_row,
    unnamed_row,
)
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect
from meshnode.api.fields import unsupported
from meshnode.api.generation import parsed
from meshnode.api.kept import KeepingFeed, heading
from meshnode.api.render import Renderer
from meshnode.api.templates import expanded
from meshnode.domain import GenerationRequest, RequestId, ServiceClass
from meshnode.errors import InternalFault, MeshnodeError
from meshnode.events import WAITS, Finished
from meshnode.gateway.admission import Admission
from meshnode.gateway.batch import Batch, Line
from meshnode.gateway.batch_file import Answered, NoLine
from meshnode.gateway.batches import AT_ONCE
from meshnode.gateway.faults import as_error
from meshnode.gateway.feed import Feed, OpenDesk, start_feed
from meshnode.gateway.job import Job
from meshnode.gateway.principal import Principal
from meshnode.gateway.turnstile import Turnstile


class DialectWork:
    """A :class:`meshnode.gateway.batch_file.Work` of the dialects, by their path below ``/v1``.

    Lines go through a turnstile of their own, so that none ever stands in the place of a request somebody waits for;
    the engine computes them after everything else.
    """

    def __init__(self, context: ApiContext, dialects: Mapping[str, Dialect]) -> None:
        self._context = context
        self._dialects = dialects
        turnstile = Turnstile(Admission(max_generating=AT_ONCE, max_queued=AT_ONCE))
        self._desk = OpenDesk(turnstile, context.dispatcher, context.library, context.draining)

    async def read(self, batch: Batch, number: int, line: bytes) -> Line | NoLine:
        """The request in line ``number``; a large one is read in a thread."""
        path = batch.endpoint.removeprefix("/v1/")
        dialect = self._dialects[path]
        parse = partial(parse_line, endpoint=batch.endpoint, dialect=dialect)
        try:
            found = await parsed(parse, line, asker_of(batch.id, number, batch.principal))
        except Exception as error:
            return NoLine(None, as_error(error, f"{batch.id}-{number}"))
        if isinstance(found, Wanted):
            found = await self._prepared(dialect, batch, found)
        if isinstance(found, Unusable):
            return NoLine(*found)
        return Line(
            number=number,
            custom_id=found.custom_id,
            dialect=path,
            request=found.ask.request,
            echo=msgspec.json.encode(dict(found.ask.echo)).decode(),
            store=found.ask.keep.store,
        )

    async def _prepared(self, dialect: Dialect, batch: Batch, found: Wanted) -> Wanted | Unusable:
        """The line with what the node keeps for it: a prompt template, an earlier answer."""
        principal = Principal(batch.principal, admin=False)
        try:
            ask = await expanded(self._context, found.ask)
            if dialect.prepare is not None:
                ask = await dialect.prepare(self._context, principal, ask)
            if ask.keep.in_session:
                raise unsupported("session_id", "Lines have no order: leave it out, or store.", what=" in a batch")
        except Exception as error:
            return Unusable(found.custom_id, as_error(error, found.ask.request.id))
        return found._replace(ask=ask)

    # --- answering ----------------------------------------------------------------------------

    async def answer(self, batch: Batch, line: Line) -> Answered:
        """The answer, once nobody else waits for their turn. Raises MeshnodeError."""
        await self._quiet()
        failed: MeshnodeError | None = None
        async with trio.open_nursery() as nursery:
            try:
                answered = await self._collected(batch, line, self._begun(nursery, batch, line))
            except Exception as error:
                failed = as_error(error, line.request.id)
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return answered

    async def _quiet(self) -> None:
        turnstile = self._context.turnstile
        while turnstile.admission.queued:
            await turnstile.changed.wait()

    def _begun(self, nursery: trio.Nursery, batch: Batch, line: Line) -> Feed:
        return start_feed(nursery, self._desk, self._request(batch, line))

    def _request(self, batch: Batch, line: Line) -> GenerationRequest:
        """The line's request, behind all others and within the batch's window."""
        left = max(1.0, batch.expires - self._context.wall_clock())
        own = line.request.deadline_s
        deadline = left if own is None else min(own, left)
        return msgspec.structs.replace(line.request, service_class=ServiceClass.LEFTOVER, deadline_s=deadline)

    async def _collected(self, batch: Batch, line: Line, feed: Feed) -> Answered:
        dialect = self._dialects[line.dialect]
        job = self._job(dialect, batch, line)
        source = KeepingFeed(self._context, feed, job) if line.store else feed
        renderer: Renderer | None = None
        while (event := await source.receive()) is not None:
            if isinstance(event, WAITS):
                continue
            if renderer is None:
                model = line.request.model if source.route is None else source.route.model
                head = heading(self._context, job.id, job.created, model)
                renderer = dialect.renderer(head, include_usage=True, echo=msgspec.json.decode(line.echo))
            renderer.collect(event)
            if isinstance(event, Finished):
                row = answered_row(line.request.id, line.custom_id, renderer.whole())
                return Answered(row, event.usage)
        raise InternalFault("the answer broke off without a last event.")

    def _job(self, dialect: Dialect, batch: Batch, line: Line) -> Job:
        """What is kept of the answer beside its row, where its line asks for that."""
        return Job(
            id=dialect.prefix + self._context.entropy(12).hex(),
            dialect=dialect.name,
            principal=batch.principal,
            request=line.request,
            created=int(self._context.wall_clock()),
            echo=line.echo,
        )

    # --- rows of those that are not answered --------------------------------------------------------

    def refusal(self, batch: Batch, number: int, custom_id: str | None, error: MeshnodeError) -> bytes:
        """The row of a line that failed, the error in its dialect's envelope."""
        request_id = RequestId(f"{batch.id}-{number}")
        if custom_id is None:
            return unnamed_row(request_id, number, error)
        voice = self._dialects[batch.endpoint.removeprefix("/v1/")].voice
        return refused_row(request_id, custom_id, error.status, voice.envelope(error, request_id))

    def late(self, batch: Batch, line: Line) -> bytes:
        """The row of a line that was not answered in the batch's time."""
        return late_row(line.request.id, line.custom_id)
