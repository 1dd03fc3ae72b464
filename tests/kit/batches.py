"""The API with files and batches, over a vault in memory or in a file, and a dispatcher that plays a script."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import trio
import trio.lowlevel

from meshnode.api.app import DIALECTS
from meshnode.api.batches.work import DialectWork
from meshnode.gateway.batches import Batches
from meshnode.gateway.files import Files
from meshnode.mesh.answer import Dispatcher
from meshnode.storage.database import open_inline
from meshnode.storage.vault import Vault
from tests.kit.api import Api, running_api

KEY = bytes(range(32))
NOW = 1_700_000_000.0


class Wall:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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
        yield Kept(vault, files, Batches(vault, files, entropy=os.urandom, now=wall), wall)


@asynccontextmanager
async def batch_api(
    dispatcher: Dispatcher | None = None, *, path: Path | None = None, wall: Wall | None = None, **fields: object
) -> AsyncIterator[Api]:
    """The API of a node that keeps files and carries out batches."""
    async with kept(path, wall) as there:
        parts = {"files": there.files, "batches": there.batches, "wall_clock": there.wall, "entropy": os.urandom}
        async with running_api(dispatcher, **(parts | fields)) as api, trio.open_nursery() as nursery:
            work = DialectWork(api.context, DIALECTS)
            nursery.start_soon(there.batches.run, work, api.context.draining)
            yield api
            nursery.cancel_scope.cancel()


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


async def until(fact: Callable[[], bool]) -> None:
    """Wait for something that other tasks bring about."""
    while not fact():
        await trio.lowlevel.checkpoint()


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
