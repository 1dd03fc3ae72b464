"""The API with files and batches, over a vault in memory or in a file, and a dispatcher that plays a script."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import trio
import trio.lowlevel

from meshnode.api.batches.work import DialectWork
from meshnode.api.dialects import DIALECTS
from meshnode.domain import OWNER, CallerId, GenerationRequest, ModelId, RequestId
from meshnode.errors import InvalidField, MeshnodeError
from meshnode.events import Usage
from meshnode.gateway.batch import WINDOW_S, Batch, Line
from meshnode.gateway.batch_file import Answered, NoLine, Work
from meshnode.gateway.batches import Batches, Creation
from meshnode.gateway.files import Files, StoredFile
from meshnode.mesh.answer import Dispatcher
from meshnode.storage.database import open_inline
from meshnode.storage.vault import DAY_S, Vault
from tests.kit.api import Api, running_api

KEY = bytes(range(32))
NOW = 1_700_000_000.0


class Wall:
    """A clock that stands until it is moved, or goes as trio's does."""

    def __init__(self, *, goes: bool = False) -> None:
        self.now = NOW
        self._goes = goes

    def __call__(self) -> float:
        return self.now + trio.current_time() if self._goes else self.now


@dataclass
class Kept:
    """What the node keeps: the vault, and the files and batches in it."""

    vault: Vault
    files: Files
    batches: Batches
    wall: Wall


@asynccontextmanager
async def kept(path: Path | None = None, wall: Wall | None = None) -> AsyncIterator[Kept]:
    """Files and batches over a database at ``path`` or in memory; nothing is carried out yet."""
    wall = wall or Wall()
    async with open_inline(path) as database:
        vault = Vault(database, KEY, entropy=os.urandom, now=wall)
        files = Files(vault, entropy=os.urandom, now=wall)
        batches = Batches(vault, files, entropy=os.urandom, now=wall)
        await batches.take_up()
        yield Kept(vault, files, batches, wall)


@asynccontextmanager
async def serving(there: Kept, dispatcher: Dispatcher | None = None, **fields: object) -> AsyncIterator[Api]:
    """The API of a node that keeps these files and carries out these batches."""
    parts: dict[str, object] = {
        "files": there.files,
        "batches": there.batches,
        "wall_clock": there.wall,
        "entropy": os.urandom,
    }
    async with running_api(dispatcher, **(parts | fields)) as api, trio.open_nursery() as nursery:  # type: ignore[arg-type]  # fields of the context, of any type
        nursery.start_soon(there.batches.run, DialectWork(api.context, DIALECTS), api.context.draining)
        yield api
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def batch_api(dispatcher: Dispatcher | None = None, **fields: object) -> AsyncIterator[Api]:
    """:func:`serving` over a vault in memory."""
    async with kept() as there, serving(there, dispatcher, **fields) as api:
        yield api


Outcome = Answered | MeshnodeError | Callable[[], Awaitable[object]]
"""What becomes of a line, or something to wait for before it is answered."""


@dataclass
class ScriptedWork:
    """A :class:`meshnode.gateway.batch_file.Work` whose lines are their names; ``outcomes`` are given in turn."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    inside: int = 0
    most: int = 0
    entered: trio.Event = field(default_factory=trio.Event)

    async def read(self, batch: Batch, number: int, line: bytes) -> Line | NoLine:
        """A line that begins with ``!`` cannot be run."""
        name = line.decode()
        if name.startswith("!"):
            return NoLine(name[1:] or None, InvalidField("wrong."))
        request = GenerationRequest(id=RequestId(name), model=ModelId("tiny"))
        return Line(number=number, custom_id=name, dialect="chat/completions", request=request)

    async def answer(self, batch: Batch, line: Line) -> Answered:
        """The next of its outcomes, or a plain answer."""
        self.asked.append(line.custom_id)
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        try:
            await trio.sleep(0.001)
            outcomes = self.outcomes.get(line.custom_id, [])
            outcome = outcomes.pop(0) if outcomes else None
            if isinstance(outcome, MeshnodeError):
                raise outcome
            if isinstance(outcome, Answered):
                return outcome
            if outcome is not None:
                await outcome()
            return Answered(line.custom_id.encode() + b"\n", Usage(1, 1))
        finally:
            self.inside -= 1

    def refusal(self, batch: Batch, number: int, custom_id: str | None, error: MeshnodeError) -> bytes:
        """The line's name and the error's code."""
        return f"{custom_id} {error.code}\n".encode()

    def late(self, batch: Batch, line: Line) -> bytes:
        """The line's name."""
        return f"{line.custom_id} late\n".encode()


async def handed(files: Files, *pieces: bytes, who: CallerId = OWNER, lasts_s: int = DAY_S) -> StoredFile:
    """A file of these pieces."""
    async with files.upload(who) as upload:
        for one in pieces:
            await upload.write(one)
        return await upload.keep("in.jsonl", "batch", lasts_s)


async def content_of(there: Kept, id_: str, who: CallerId = OWNER) -> str:
    """What is in a file."""
    file = await there.files.file(who, id_)
    return b"".join([data async for data in there.files.content(who, file)]).decode()


async def created(there: Kept, content: bytes, who: CallerId = OWNER) -> Batch:
    """A batch of a file with this content."""
    file = await handed(there.files, content, who=who)
    return await there.batches.create(who, Creation(file.id, "/v1/chat/completions", DAY_S))


@asynccontextmanager
async def carried_out(there: Kept, work: Work) -> AsyncIterator[trio.Event]:
    """The batches are carried out; gives the event that asks for the end, which the block's own end brings at once."""
    draining = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.batches.run, work, draining)
        yield draining
        nursery.cancel_scope.cancel()


async def over(there: Kept, batch: Batch) -> Batch:
    """The batch, once it is over."""
    while True:
        found = await there.batches.batch(batch.principal, batch.id)
        if found.status.over:
            return found
        await trio.sleep(0.01)


def a_batch(id_: str = "batch_1") -> Batch:
    """A batch of the owner's that has just begun."""
    return Batch(
        id=id_,
        principal=OWNER,
        endpoint="/v1/chat/completions",
        input_file="file-in",
        outputs="file-out",
        errors="file-err",
        created=int(NOW),
        expires=int(NOW) + WINDOW_S,
        output_s=3600,
    )


def a_line(custom_id: str, content: str = "hi", **body: object) -> dict[str, Any]:
    """A chat request of a batch."""
    asked = {"model": "tiny", "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def jsonl(*lines: object) -> bytes:
    """Lines as a file; bytes go as they are."""
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


async def uploaded(client: httpx2.AsyncClient, content: bytes, **headers: str) -> str:
    """Hand in a file; gives its id."""
    answer = await client.post(
        "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    id_: str = answer.json()["id"]
    return id_


async def begun(client: httpx2.AsyncClient, content: bytes, **fields: object) -> dict[str, Any]:
    """Hand in a file and begin a batch of it."""
    wanted = {
        "input_file_id": await uploaded(client, content),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        **fields,
    }
    answer = await client.post("/v1/batches", json=wanted)
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


async def in_status(client: httpx2.AsyncClient, id_: str, *statuses: str) -> dict[str, Any]:
    """The batch, once it has one of these."""
    while True:
        batch: dict[str, Any] = (await client.get(f"/v1/batches/{id_}")).json()
        if batch["status"] in statuses:
            return batch


async def rows(client: httpx2.AsyncClient, file: str | None) -> Sequence[dict[str, Any]]:
    """What stands in a batch's file."""
    if file is None:
        return []
    answer = await client.get(f"/v1/files/{file}/content")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]
