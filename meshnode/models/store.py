"""The folder ``<home>/models``: files named by the hash of their content, and the index of every model known.

    <sha256>.gguf        a managed model; 64 hex digits, nothing else
    <key>.part           a fetch that is not finished; the key is a hash too
    <key>.part.json      where it comes from, so that it can be resumed safely
    index.json           the cards, managed files and referred ones

Every file is opened beneath the folder's own descriptor without following links, and no name comes from outside:
a digest is checked to be 64 hex digits before it becomes a path. Writes are atomic (new file, fsync, rename, fsync of
the folder). All functions block; callers put them in threads where files are big.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from meshnode.domain import ModelCard, Record
from meshnode.errors import Conflict, DiskFull, HomeUnusable, ModelFileRefused

INDEX = "index.json"
INDEX_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MANAGED = re.compile(r"([0-9a-f]{64})\.gguf")
_PART = re.compile(r"([0-9a-f]{64})\.part")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Index(Record, frozen=True):
    """What ``index.json`` holds."""

    version: int
    cards: tuple[ModelCard, ...]


class PartNote(Record, frozen=True):
    """What a partial file is part of; ``url`` without secrets, ``size`` in bytes where it is known."""

    url: str
    etag: str = ""
    size: int | None = None
    sha256: str | None = None


_note = msgspec.json.Decoder(PartNote)
_index = msgspec.json.Decoder(Index)


def check_digest(digest: str) -> str:
    """``digest`` if it is 64 lower-case hex digits. Raises ModelFileRefused: nothing else may become a file name."""
    if not _DIGEST.fullmatch(digest):
        raise ModelFileRefused(f"{digest[:80]!r} is no sha256 digest.", hint="Models here are named by 64 hex digits.")
    return digest


def part_key(text: str) -> str:
    """The key of a partial file that is fetched from ``text``."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """The operating system's errors about the home as this project's."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space is left in {path}.", hint="Free some space, then try again.") from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        where = error.filename if isinstance(error.filename, str) else path
        raise HomeUnusable(f"{where} cannot be used: {reason}.", hint=f"Check the owner and mode of {path}.") from error


class Store:
    """The open folder. Made by :func:`open_store`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._fd = descriptor
        self._claimed: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where a managed file lies."""
        return self.folder / f"{check_digest(digest)}.gguf"

    def open(self, digest: str) -> BinaryIO:
        """A managed file for reading. Raises ModelFileRefused where there is none, or a link or folder in its place."""
        name = f"{check_digest(digest)}.gguf"
        try:
            descriptor = os.open(name, _READ, dir_fd=self._fd)
        except OSError as error:
            raise ModelFileRefused(
                f"{self.folder / name} cannot be opened: {os.strerror(error.errno or 0)}.", hint="Pull the model again."
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ModelFileRefused(f"{self.folder / name} is not a file.", hint="Remove it and pull the model again.")
        return os.fdopen(descriptor, "rb")

    def check(self, digest: str) -> None:
        """Raises ModelFileRefused where :meth:`open` would."""
        self.open(digest).close()

    def digests(self) -> list[str]:
        """The managed files there are, by digest."""
        return sorted(found[1] for name in os.listdir(self._fd) if (found := _MANAGED.fullmatch(name)))

    def remove(self, digest: str) -> None:
        """Delete a managed file; nothing happens where there is none."""
        with translated(self.folder), contextlib.suppress(FileNotFoundError):
            os.unlink(f"{check_digest(digest)}.gguf", dir_fd=self._fd)

    def set_aside(self, digest: str) -> Path:
        """Rename a managed file whose content is not what its name says; gives where it went."""
        aside = f"{check_digest(digest)}.damaged"
        with translated(self.folder):
            os.rename(f"{digest}.gguf", aside, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        return self.folder / aside

    def part(self, key: str) -> Part:
        """The partial file of that key, which need not be there."""
        return Part(self, self._fd, check_digest(key))

    @contextlib.contextmanager
    def claimed_part(self, origin: str) -> Iterator[Part]:
        """The partial file of what comes from ``origin``, for one writer at a time. Raises Conflict for a second."""
        key = part_key(origin)
        if key in self._claimed:
            raise Conflict("it is being pulled already.", hint="Wait until that pull has ended.")
        self._claimed.add(key)
        try:
            yield self.part(key)
        finally:
            self._claimed.discard(key)

    def forget_parts(self, before: float) -> None:
        """Delete what nobody has gone on fetching since ``before`` (seconds since 1970)."""
        with translated(self.folder):
            for name in os.listdir(self._fd):
                found = _PART.fullmatch(name)
                if found and os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime < before:
                    self.part(found[1]).discard()

    def read_index(self) -> tuple[ModelCard, ...]:
        """The cards of the index; none where there is no index. Raises ModelFileRefused where it cannot be read."""
        with translated(self.folder):
            try:
                with os.fdopen(os.open(INDEX, _READ, dir_fd=self._fd), "rb") as file:
                    content = file.read()
            except FileNotFoundError:
                return ()
        try:
            index = _index.decode(content)
        except msgspec.DecodeError as error:
            raise ModelFileRefused(f"{self.folder / INDEX} is damaged: {error}.") from error
        if index.version != INDEX_VERSION:
            raise ModelFileRefused(f"{self.folder / INDEX} has version {index.version}, not {INDEX_VERSION}.")
        return index.cards

    def set_index_aside(self) -> Path:
        """Keep a damaged index under another name, so that nothing in it is lost; gives where it went."""
        taken = set(os.listdir(self._fd))
        aside = next(name for n in range(1, len(taken) + 2) if (name := f"index.damaged-{n}.json") not in taken)
        with translated(self.folder):
            os.rename(INDEX, aside, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        return self.folder / aside

    def write_index(self, cards: tuple[ModelCard, ...]) -> None:
        """Replace the index. The old one stays whole until the new one is on the disk."""
        content = msgspec.json.format(msgspec.json.encode(Index(version=INDEX_VERSION, cards=cards)), indent=1)
        self.replace(INDEX, content)

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file atomically; for this room's own names only."""
        fresh = f"{name}.new"
        with translated(self.folder):
            try:
                with os.fdopen(os.open(fresh, _WRITE | os.O_TRUNC, 0o600, dir_fd=self._fd), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(fresh, dir_fd=self._fd)
                raise
            os.rename(fresh, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)


class Part:
    """A file on its way in. It survives a crash, and a later pull of the same source goes on where it ended."""

    def __init__(self, store: Store, descriptor: int, key: str) -> None:
        self._store = store
        self._fd = descriptor
        self._name = f"{key}.part"

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._store.folder / self._name

    def size(self) -> int:
        """Bytes that are there; 0 where there is no such file."""
        try:
            return os.stat(self._name, dir_fd=self._fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def open_for_append(self, at: int) -> FileIO:
        """The file, unbuffered, for writing behind its first ``at`` bytes; what was there beyond them is cut off."""
        with translated(self._store.folder):
            file = os.fdopen(os.open(self._name, _WRITE, 0o600, dir_fd=self._fd), "wb", buffering=0)
            file.truncate(at)
        return file

    def open(self) -> BinaryIO:
        """The file for reading."""
        with translated(self._store.folder):
            return os.fdopen(os.open(self._name, _READ, dir_fd=self._fd), "rb")

    def note(self) -> PartNote | None:
        """What was remembered about it; ``None`` where nothing readable was."""
        try:
            with os.fdopen(os.open(f"{self._name}.json", _READ, dir_fd=self._fd), "rb") as file:
                return _note.decode(file.read(1 << 16))
        except (OSError, msgspec.DecodeError):
            return None

    def remember(self, note: PartNote) -> None:
        """Keep what it is part of."""
        self._store.replace(f"{self._name}.json", msgspec.json.encode(note))

    def discard(self) -> None:
        """Delete it and what was remembered."""
        for name in (self._name, f"{self._name}.json"):
            with translated(self._store.folder), contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)

    def keep_as(self, digest: str) -> Path:
        """Make it the managed file of that digest, durably; gives where it lies."""
        name = f"{check_digest(digest)}.gguf"
        with translated(self._store.folder):
            with self.open() as file:
                os.fsync(file.fileno())
            os.rename(self._name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)
        self.discard()
        return self._store.path(digest)


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open the folder, making it (0700) where it is missing. Raises HomeUnusable or DiskFull."""
    with translated(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        except OSError:
            os.close(descriptor)
            raise
    try:
        yield Store(folder, descriptor)
    finally:
        os.close(descriptor)
