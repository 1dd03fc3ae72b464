"""The control socket: the same HTTP on a UNIX socket in the home, for the owner's own programs.

Only the owner can open it (0600), and who connects is asked for again by uid: root and the owner pass.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from meshnode.errors import HomeInUse, HomeUnusable

_LONGEST: Final = 107 if sys.platform.startswith("linux") else 103
"""Bytes of ``sun_path`` without its closing NUL."""
_BACKLOG: Final = 64
_DARWIN_LOCAL_PEERCRED: Final = 1


@contextmanager
def control_listener(path: Path) -> Iterator[socket.socket]:
    """A listening socket at ``path``, removed at the end. Raises HomeUnusable, or HomeInUse when a node answers."""
    if len(os.fsencode(path)) > _LONGEST:
        raise HomeUnusable(
            f"the path of the control socket has {len(os.fsencode(path))} bytes; this system takes {_LONGEST}.",
            hint="Use a home with a shorter path: --home DIR.",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _replace_stale(path)
        # Nobody can connect between bind and listen, so the mode is right before the first connection.
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        ours = path.stat().st_ino
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise HomeUnusable(f"{path} cannot be made: {error.strerror}.", hint="Mend the permissions of the home.")
    except BaseException:
        listener.close()
        raise
    try:
        yield listener
    finally:
        listener.close()
        _remove(path, ours)


def peer_uid(connection: socket.socket) -> int | None:
    """The uid of the process at the other end; ``None`` where this system does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid: int = struct.unpack("3i", raw)[1]
        return uid
    if sys.platform == "darwin":  # struct xucred: version, uid, …
        raw = connection.getsockopt(0, _DARWIN_LOCAL_PEERCRED, 76)
        darwin: int = struct.unpack_from("2I", raw)[1]
        return darwin
    return None


def may_control(uid: int | None, owner: int) -> bool:
    """Whether this uid may use the control socket of ``owner``'s node; an unknown one is left to the file's mode."""
    return uid is None or uid in (0, owner)


def _replace_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HomeUnusable(f"{path} is in the way: it is not a socket.", hint="Move it elsewhere.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
            path.unlink(missing_ok=True)
            return
    raise HomeInUse(f"a node answers at {path}.", hint="Stop it first: meshnode stop")


def _remove(path: Path, inode: int) -> None:
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except OSError:
        return
