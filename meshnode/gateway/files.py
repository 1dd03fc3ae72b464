"""Files that principals hand in, and those that batches leave them: sealed in pieces, seen by nobody else.

A file is written piece by piece and is there once it is whole: what a client or a crash left half-way is dropped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import msgspec
import trio

from meshnode.domain import CallerId, Record
from meshnode.errors import BodyTooLarge, InvalidField, NotFound, RateLimited
from meshnode.storage.vault import DAY_S, Item, Vault, absent, contents, readable

KIND: Final = "file"
PIECE: Final = "file_piece"
PIECE_BYTES: Final = 1 << 19
"""Bytes of one piece of an upload."""
MOST_FILES: Final = 1000
"""Files of one principal."""
MOST_KEPT: Final = 1 << 30
"""Bytes of all files of one principal."""
LONGEST_S: Final = 30 * DAY_S
SHORTEST_S: Final = 3600
"""How long a file may be kept for (OpenAI's bounds)."""
BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
_AT_A_TIME: Final = 4
"""Pieces read ahead of who takes them."""


class StoredFile(Record, frozen=True):
    """What is known of one file beside its content. Times in seconds since 1970; ``ready``: it is whole."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created: int
    expires: int
    ready: bool = False


class FilePage(NamedTuple):
    """Some files in order, and whether there may be more behind them."""

    files: tuple[StoredFile, ...]
    more: bool


class Files:
    """The files of everybody, each seen only by its principal. ``now`` gives seconds since 1970."""

    def __init__(self, vault: Vault, *, entropy: Callable[[int], bytes], now: Callable[[], float]) -> None:
        self._vault = vault
        self._entropy = entropy
        self._now = now

    async def file(self, principal: CallerId, id_: str) -> StoredFile:
        """The file of that id. Raises NotFound."""
        found = contents(await self._vault.get(principal, KIND, id_), StoredFile)
        if not found.ready:
            raise absent(KIND, id_)
        if found.expires <= self._now():
            await self._forget(principal, id_)
            raise absent(KIND, id_)
        return found

    async def page(
        self, principal: CallerId, *, after: str | None, limit: int, newest_first: bool, purpose: str | None = None
    ) -> FilePage:
        """Whole files in the order in which they were begun, or the other way. Raises NotFound for ``after``."""
        found: list[StoredFile] = []
        more = True
        while more and len(found) < limit:
            page = await self._vault.page(
                principal, KIND, after=after, limit=limit - len(found), newest_first=newest_first
            )
            more, after = page.more, page.last
            for one in readable(page.items, StoredFile):
                if one.ready and one.expires > self._now() and purpose in (None, one.purpose):
                    found.append(one)
        return FilePage(tuple(found), more)

    async def delete(self, principal: CallerId, id_: str) -> None:
        """Forget the file. Raises NotFound."""
        await self.file(principal, id_)
        await self._vault.delete(principal, KIND, id_)

    def content(self, principal: CallerId, file: StoredFile) -> Content:
        """What is in the file, from its beginning on."""
        return Content(self._vault, principal, file)

    @asynccontextmanager
    async def upload(self, principal: CallerId) -> AsyncIterator[Upload]:
        """A file that is being handed in; it is gone with the block unless it was kept in it.

        Raises RateLimited where the principal has too many.
        """
        upload = Upload(
            self._vault, principal, new_file_id(self._entropy), int(self._now()), await self._room(principal)
        )
        try:
            await upload.begin()
            yield upload
        finally:
            if not upload.kept:
                with trio.CancelScope(shield=True):
                    await self._forget(principal, upload.id)

    async def _room(self, principal: CallerId) -> int:
        """How many bytes the principal may still hand in; what had its time is dropped on the way."""
        page = await self._vault.page(principal, KIND, limit=MOST_FILES)
        files = readable(page.items, StoredFile)
        late = [one for one in files if one.expires <= self._now()]
        for one in late:
            await self._forget(principal, one.id)
        if len(files) - len(late) >= MOST_FILES:
            raise RateLimited(f"{MOST_FILES} files are kept for you already.", hint="Delete some of them first.")
        return MOST_KEPT - sum(one.bytes for one in files if one not in late)

    async def _forget(self, principal: CallerId, id_: str) -> None:
        with suppress(NotFound):
            await self._vault.delete(principal, KIND, id_)

    async def drop_unfinished(self) -> None:
        """Drop uploads that an earlier life of the node left half-way."""
        for ref in await self._vault.unfinished(KIND):
            await self._forget(ref.principal, ref.id)


class Upload:
    """One file as it arrives. Made by :meth:`Files.upload`."""

    def __init__(self, vault: Vault, principal: CallerId, id_: str, now: int, room: int) -> None:
        self.id = id_
        self.size = 0
        self.kept = False
        self._vault = vault
        self._principal = principal
        self._now = now
        self._room = room
        self._pieces = 0
        self._held = bytearray()

    async def begin(self) -> None:
        """Write down that there is something to come."""
        await self._vault.put(head(self._principal, self._file("", BATCH, LONGEST_S), unfinished=True))

    async def write(self, data: bytes) -> None:
        """Add to the file. Raises BodyTooLarge where all the principal's files together are too large."""
        self.size += len(data)
        if self.size > self._room:
            raise BodyTooLarge(f"your files would take more than {MOST_KEPT} bytes.", hint="Delete some of them first.")
        self._held += data
        while len(self._held) >= PIECE_BYTES:
            await self._put(bytes(self._held[:PIECE_BYTES]))
            del self._held[:PIECE_BYTES]

    async def keep(self, filename: str, purpose: str, lasts_s: int) -> StoredFile:
        """The file is whole. Raises InvalidField where it is empty."""
        if not self.size:
            raise InvalidField("file is empty.", hint="Send a file with one JSON object a line.", param="file")
        if self._held:
            await self._put(bytes(self._held))
        file = msgspec.structs.replace(self._file(filename, purpose, lasts_s), ready=True)
        await self._vault.put(head(self._principal, file))
        self.kept = True
        return file

    async def _put(self, data: bytes) -> None:
        await self._vault.put(piece(self._principal, self.id, self._pieces, data))
        self._pieces += 1

    def _file(self, filename: str, purpose: str, lasts_s: int) -> StoredFile:
        return StoredFile(
            id=self.id,
            filename=filename,
            purpose=purpose,
            bytes=self.size,
            created=self._now,
            expires=self._now + lasts_s,
        )


class Content:
    """The bytes of one file, a few pieces at a time."""

    def __init__(self, vault: Vault, principal: CallerId, file: StoredFile) -> None:
        self._vault = vault
        self._principal = principal
        self._file = file
        self._number = 0
        self._size = 0
        self._ahead: list[Item] = []

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises NotFound where the file was deleted meanwhile, or is damaged."""
        if self._size >= self._file.bytes:
            raise StopAsyncIteration
        await self.look_ahead()
        data = self._ahead.pop(0).data
        self._number += 1
        self._size += len(data)
        return data

    async def look_ahead(self) -> None:
        """See that there is a next piece; raises as taking it does."""
        if not self._ahead:
            after = piece_id(self._file.id, self._number - 1) if self._number else None
            page = await self._vault.page(self._principal, PIECE, part_of=self._file.id, after=after, limit=_AT_A_TIME)
            self._ahead = list(page.items)
        if not self._ahead or self._ahead[0].id != piece_id(self._file.id, self._number):
            raise NotFound(f"the file {self._file.id} is damaged, or was deleted meanwhile.")


def new_file_id(entropy: Callable[[int], bytes]) -> str:
    """An id as OpenAI's look."""
    return "file-" + entropy(12).hex()


def piece_id(file: str, number: int) -> str:
    """What piece ``number`` of a file is called."""
    return f"{file}/{number:08d}"


def piece(principal: CallerId, file: str, number: int, data: bytes) -> Item:
    """Piece ``number`` of a file, counted from 0, as the vault keeps it."""
    return Item(principal=principal, kind=PIECE, id=piece_id(file, number), part_of=file, data=data)


def head(principal: CallerId, file: StoredFile, *, unfinished: bool = False) -> Item:
    """What is known of a file, as the vault keeps it; ``unfinished``: to be dropped when the node starts."""
    return Item(principal=principal, kind=KIND, id=file.id, data=msgspec.msgpack.encode(file), unfinished=unfinished)
