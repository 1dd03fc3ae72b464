"""What the owner does to the node: ``/api/models…``, ``/api/stop``; by the control socket or with the admin token."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TypeVar

import msgspec
import structlog
import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from meshnode.api.asgi import body_of, current
from meshnode.api.context import ApiContext, PullProgressView
from meshnode.api.errors import as_error, envelope
from meshnode.api.fields import check_names, convert, text
from meshnode.api.models import elsewhere, providers, state_of
from meshnode.api.sse import encode
from meshnode.api.status import model_state
from meshnode.api.strictjson import parse_object
from meshnode.domain import ModelCard
from meshnode.errors import Draining, InvalidField, Unauthorized
from meshnode.mesh.view import MeshModel

T = TypeVar("T", bound=msgspec.Struct)
_log = structlog.get_logger()


class PullFields(msgspec.Struct, kw_only=True):
    """``POST /api/models/pull``."""

    source: Annotated[str, text(4096)]


class AddFields(msgspec.Struct, kw_only=True):
    """``POST /api/models/add``; ``path`` is one of this machine's."""

    path: Annotated[str, text(4096)]
    name: Annotated[str, text(256)] | None = None


async def administrators_only() -> None:
    """The guard says so before; this holds even if a path slipped past it. Raises Unauthorized."""
    principal = current().principal
    if principal is None or not principal.admin:
        raise Unauthorized("this call asks for the admin token.")


async def fields_of(kind: type[T]) -> T:
    """The request's body as ``kind``. Raises MalformedBody, UnknownField or InvalidField."""
    raw = parse_object(await body_of())
    check_names(raw, kind, {})
    return convert(raw, kind)


def admin(context: ApiContext) -> Blueprint:
    """The endpoints, for administrators only."""
    routes = Blueprint("admin", __name__)
    routes.before_request(administrators_only)

    @routes.post("/api/stop")
    async def stop() -> dict[str, Any]:
        """End answers under way and leave."""
        _log.info("stop_asked_by_api")
        context.stop()
        return {"stopping": True}

    _library(routes, context)
    _memory(routes, context)
    return routes


def _library(routes: Blueprint, context: ApiContext) -> None:
    """Models on disk; listed with those that only peers serve."""

    @routes.get("/api/models")
    async def listing() -> dict[str, Any]:
        cards = context.library.cards()
        there = elsewhere(context.mesh.models(), cards)
        return {"models": [*_entries(context, cards), *map(_mesh_entry, there)]}

    @routes.post("/api/models/scan")
    async def scan() -> dict[str, Any]:
        return {"models": _entries(context, await context.library.scan())}

    @routes.post("/api/models/add")
    async def add() -> dict[str, Any]:
        fields = await fields_of(AddFields)
        card = await context.library.add_file(Path(fields.path), name=fields.name)
        return {"model": _entry(context, card)}

    @routes.post("/api/models/pull")
    async def pull() -> Response:
        fields = await fields_of(PullFields)
        response = Response(PullStream(context, fields.source), content_type="application/x-ndjson")
        response.timeout = None
        return response

    @routes.delete("/api/models/<path:name>")
    async def remove(name: str) -> dict[str, Any]:
        await context.pool.unload(context.library.resolve(name).id)
        card = await context.library.remove(name)
        return {**_entry(context, card), "deleted": True}


def _memory(routes: Blueprint, context: ApiContext) -> None:
    """Models in memory, and whether they would fit there."""

    @routes.get("/api/models/<path:name>/fit")
    async def fit(name: str) -> dict[str, Any]:
        card = context.library.resolve(name)
        found: dict[str, Any] = msgspec.to_builtins(context.outlook(card, _tokens(request.args.get("context", "0"))))
        return found

    @routes.post("/api/models/<path:name>/load")
    async def load(name: str) -> dict[str, Any]:
        card = context.library.resolve(name)
        await context.pool.load(card)
        return {"model": _entry(context, card)}

    @routes.post("/api/models/<path:name>/unload")
    async def unload(name: str) -> dict[str, Any]:
        card = context.library.resolve(name)
        await context.pool.unload(card.id)
        return {"model": _entry(context, card)}


def _tokens(given: str) -> int:
    """A context length in a query. Raises InvalidField."""
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise InvalidField(f"context: {given[:20]!r} is no number of tokens.", param="context")
    return int(given)


class PullStream(ResponseBody):
    """A pull as lines of JSON: progress, then ``done`` with the model, or the error's envelope.

    The library's block lives in a task of its own, in the request's nursery: it is left when the client leaves, and
    when the node stops: a pull can be gone on with, so nobody waits for its end.
    """

    def __init__(self, context: ApiContext, source: str) -> None:
        self._context = context
        self._source = source
        self._send, self._receive = trio.open_memory_channel[bytes](0)
        self._handling = current()

    async def __aenter__(self) -> PullStream:
        self._handling.nursery.start_soon(self._run)
        return self

    async def __aexit__(self, exc_type: type[BaseException], exc_value: BaseException, tb: TracebackType) -> None:
        self._receive.close()

    def __aiter__(self) -> PullStream:
        return self

    async def __anext__(self) -> bytes:
        """The next line."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def _run(self) -> None:
        async with self._send:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_with_node)
                    await self._pull()
                    nursery.cancel_scope.cancel()
            except Exception as error:
                await self._tell(envelope(as_error(error, self._handling.request_id), owner=True))

    async def _pull(self) -> None:
        async with self._context.library.pull(self._source) as progress:
            async for step in progress:
                await self._tell(_progress(step))

    async def _tell(self, line: dict[str, Any]) -> None:
        with suppress(trio.BrokenResourceError):  # nobody reads it any more, and the nursery is being cancelled
            await self._send.send(encode(line) + b"\n")

    async def _end_with_node(self) -> None:
        await self._context.draining.wait()
        raise Draining("the node is stopping.", hint="Pull again when it is back: what was fetched is kept.")


def _progress(step: PullProgressView) -> dict[str, Any]:
    return {"phase": step.phase, "done": step.done, "total": step.total, "model": step.model}


def _entry(context: ApiContext, card: ModelCard) -> dict[str, Any]:
    (shown,) = _entries(context, [card])
    return shown


def _entries(context: ApiContext, cards: Iterable[ModelCard]) -> list[dict[str, Any]]:
    there = context.mesh.models()
    return [_local_entry(context, card, len(providers(card.id, there))) for card in cards]


def _local_entry(context: ApiContext, card: ModelCard, provider_count: int) -> dict[str, Any]:
    states = (model_state(state) for state in context.pool.states() if state.id == card.id)
    state = next(states, {"state": "unloaded", "progress": 0.0, "reason": ""})
    return {**msgspec.structs.asdict(card), "modalities": list(card.modalities), **state, "id": card.id} | {
        "context_length": card.context_length,
        "owned_by": "local",
        "providers": provider_count,
    }


def _mesh_entry(model: MeshModel) -> dict[str, Any]:
    """A model without a file here; ``providers`` counts the peers that serve it."""
    return {
        "id": model.id,
        "path": "",
        "size": 0,
        "quantisation": model.quantisation,
        "context_length": model.context_length,
        "parameters": model.parameters,
        "family": model.family,
        "license": model.license,
        "modalities": list(model.modalities),
        "source": "mesh",
        "managed": False,
        "state": state_of(model),
        "owned_by": "mesh",
        "providers": len(model.providers),
    }
