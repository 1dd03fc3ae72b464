"""The home: a private folder that one node at a time uses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshnode.errors import DiskFull, HomeInUse, HomeUnusable

DATABASE_FILE: Final = "meshnode.db"
CONTROL_SOCKET: Final = "control.sock"
LOCK_FILE: Final = "lock"
SETTINGS_FILE: Final = "config.toml"
LOCK_ATTEMPTS: Final = 5
"""A :func:`holder` that looks at this very moment has the lock, too, for an instant."""
FOLDERS: Final = ("models",)
LEAST_FREE: Final = 8 << 20
"""Bytes that must be free to start: room for keys, the database and its log."""
LONGEST_SOCKET_PATH: Final = 103 if sys.platform == "darwin" else 107
"""Bytes of ``sockaddr_un.sun_path`` without its closing zero."""


def prepare(home: Path) -> Path:
    """Make the home and its folders, private (0700), and check that it can be used; returns its absolute path.

    Raises HomeUnusable or DiskFull, saying what to do.
    """
    home = home.expanduser().absolute()
    _make(home)
    _check_owner(home)
    _check_socket_path(home)
    _check_writable(home)
    for name in FOLDERS:
        _make(home / name)
    _check_space(home)
    return home


@contextlib.contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the home for this process until the block is left or the process dies, however that happens.

    Raises HomeInUse, naming the process that holds it, or HomeUnusable.
    """
    path = home / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unusable(path, error)
    try:
        _take(descriptor, home)
        yield
    finally:
        os.close(descriptor)  # gives the lock back; the file stays, as removing it would race with the next node


def holder(home: Path) -> str | None:
    """The process id, as text, of the node that holds the home; None when none does."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(descriptor)
    finally:
        os.close(descriptor)
    return None


def _named(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"


def _take(descriptor: int, home: Path) -> None:
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise HomeInUse(
                    f"Another node runs on {home} (process {_named(descriptor)}).",
                    hint=f"Stop it with `meshnode stop --home {home}`, or give this one another --home.",
                )
            time.sleep(0.02)
        except OSError as error:
            raise _unusable(home / LOCK_FILE, error)
    try:
        with _full_disk_told(home):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise _unusable(home / LOCK_FILE, error)


def _make(folder: Path) -> None:
    try:
        with _full_disk_told(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise HomeUnusable(f"{folder} is a file, not a folder.", hint="Move it away, or choose another --home.")
    except OSError as error:
        raise _unusable(folder, error)


def _check_owner(home: Path) -> None:
    status = home.stat()
    us = os.geteuid()
    if us not in (0, status.st_uid):
        raise HomeUnusable(
            f"{home} belongs to user {status.st_uid}, this is user {us}.",
            hint=f"Give it to this user (sudo chown -R {us} {home}), or choose another --home.",
        )
    if status.st_mode & 0o077:
        _close(home, status.st_mode)


def _close(home: Path, mode: int) -> None:
    """Keep others out of a home; a folder in use for other things (``/tmp``, a login folder) stays as it is."""
    try:
        names = set(os.listdir(home))
    except OSError as error:
        raise _unusable(home, error)
    if not names or names & {DATABASE_FILE, SETTINGS_FILE}:
        with contextlib.suppress(OSError):  # a file system without modes; what is secret in it has its own
            home.chmod(0o700)
    elif mode & 0o002:
        raise HomeUnusable(
            f"{home} holds other things, and everybody may write there.", hint="Name a folder of its own with --home."
        )


def _check_socket_path(home: Path) -> None:
    length = len(os.fsencode(home / CONTROL_SOCKET))
    if length > LONGEST_SOCKET_PATH:
        raise HomeUnusable(
            f"{home} is too long a path: with /{CONTROL_SOCKET} it has {length} bytes, a socket's may have "
            f"{LONGEST_SOCKET_PATH}.",
            hint="Choose a shorter --home.",
        )


def _check_writable(home: Path) -> None:
    # By doing it: permission bits say nothing about a read-only mount, an ACL or a quota.
    try:
        with _full_disk_told(home), tempfile.TemporaryFile(dir=home) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
        os.listdir(home)
    except OSError as error:
        raise _unusable(home, error)


def _check_space(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < LEAST_FREE:
        raise _no_space(home, f"only {free >> 20} MiB are free")


@contextlib.contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path, os.strerror(error.errno).lower())
        raise


def _no_space(path: Path, detail: str) -> DiskFull:
    return DiskFull(
        f"The disk that holds {path} is full: {detail}, a node needs {LEAST_FREE >> 20} MiB to start.",
        hint="Free space there (`meshnode rm MODEL` removes a model), or choose another --home.",
    )


def _unusable(path: Path, error: OSError) -> HomeUnusable:
    return HomeUnusable(
        f"{path} cannot be used: {(error.strerror or 'unknown error').lower()}.",
        hint="Give this user read and write permission there, or choose another --home.",
    )
