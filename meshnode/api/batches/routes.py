"""``/v1/files`` and ``/v1/batches``: each principal sees its own. The upload is the one body here that is not JSON."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import trio
from quart import Blueprint, Response, request

from meshnode.api.asgi import body_of, caller
from meshnode.api.batches.multipart import Reader, boundary_of
from meshnode.api.batches.schema import (
    BatchListFields,
    FileListFields,
    Form,
    batch_object,
    file_object,
    parse_batch,
    parse_query,
)
from meshnode.api.context import ApiContext
from meshnode.api.paging import listed
from meshnode.errors import BodyTooLarge, Forbidden, MalformedBody
from meshnode.gateway.batches import Batches
from meshnode.gateway.files import Files, StoredFile, Upload

UPLOAD_TIMEOUT_S: Final = 600
"""Seconds that an upload may take in all."""


def batches(context: ApiContext, endpoints: Collection[str]) -> Blueprint:
    """The endpoints; ``endpoints`` are the paths that a batch may be for."""
    routes = Blueprint("batches", __name__)
    _files_routes(routes, context)
    _batches_routes(routes, context, endpoints)
    return routes


def _files_routes(routes: Blueprint, context: ApiContext) -> None:
    @routes.post("/v1/files")
    async def upload() -> dict[str, Any]:
        return file_object(await _uploaded(context))

    @routes.get("/v1/files")
    async def files() -> dict[str, Any]:
        asked = parse_query(request.args, FileListFields)
        page = await _files(context).page(
            caller(),
            after=asked.after,
            limit=asked.limit,
            newest_first=asked.order == "desc",
            purpose=asked.purpose,
        )
        return listed(list(map(file_object, page.files)), more=page.more)

    @routes.get("/v1/files/<id_>")
    async def file(id_: str) -> dict[str, Any]:
        return file_object(await _files(context).file(caller(), id_))

    @routes.delete("/v1/files/<id_>")
    async def delete(id_: str) -> dict[str, Any]:
        await _files(context).delete(caller(), id_)
        return {"id": id_, "object": "file", "deleted": True}

    @routes.get("/v1/files/<id_>/content")
    async def content(id_: str) -> Response:
        found = await _files(context).file(caller(), id_)
        pieces = _files(context).content(caller(), found)
        await pieces.look_ahead()
        response = Response(pieces, content_type="application/octet-stream")
        response.content_length = found.bytes
        response.timeout = None
        return response


def _batches_routes(routes: Blueprint, context: ApiContext, endpoints: Collection[str]) -> None:
    @routes.post("/v1/batches")
    async def create() -> dict[str, Any]:
        wanted = parse_batch(await body_of(), endpoints)
        return batch_object(await _batches(context).create(caller(), wanted))

    @routes.get("/v1/batches")
    async def all_of_them() -> dict[str, Any]:
        asked = parse_query(request.args, BatchListFields)
        page = await _batches(context).page(caller(), after=asked.after, limit=asked.limit)
        return listed(list(map(batch_object, page.batches)), more=page.more)

    @routes.get("/v1/batches/<id_>")
    async def batch(id_: str) -> dict[str, Any]:
        return batch_object(await _batches(context).batch(caller(), id_))

    @routes.post("/v1/batches/<id_>/cancel")
    async def cancel(id_: str) -> dict[str, Any]:
        return batch_object(await _batches(context).cancel(caller(), id_))


async def _uploaded(context: ApiContext) -> StoredFile:
    """The file that the request at hand brings; nothing of it is left where that is refused or breaks off."""
    reader = Reader(boundary_of(request.headers.get("content-type")))
    async with _files(context).upload(caller()) as upload:
        form = Form()
        with trio.move_on_after(UPLOAD_TIMEOUT_S) as scope:
            await _receive(reader, form, upload, context.settings.max_body)
        if scope.cancelled_caught:
            raise MalformedBody(f"the upload did not arrive within {UPLOAD_TIMEOUT_S} s.")
        handed = form.handed()
        return await upload.keep(handed.filename, handed.purpose, handed.lasts_s)


async def _receive(reader: Reader, form: Form, upload: Upload, most: int) -> None:
    size = 0
    async for data in request.body:
        size += len(data)
        if size > most:
            raise BodyTooLarge(f"the body is larger than {most} bytes.", hint="Send less, or raise api.max_body.")
        for piece in reader.feed(data):
            await upload.write(form.take(piece))
    for piece in reader.end():
        await upload.write(form.take(piece))


def _files(context: ApiContext) -> Files:
    if context.files is None:
        raise _off()
    return context.files


def _batches(context: ApiContext) -> Batches:
    if context.batches is None:
        raise _off()
    return context.batches


def _off() -> Forbidden:
    return Forbidden("this node keeps no files and batches.", hint="Its owner can change that: store.enabled.")
