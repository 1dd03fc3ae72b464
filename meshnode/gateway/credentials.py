"""The secrets on disk that open doors: the admin token of this start, and the key file the owner wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from meshnode.errors import ConfigError, HomeUnusable
from meshnode.gateway.keys import KeyRing, parse_keys

TOKEN_FILE: Final = "admin.token"
MOST: Final = 1 << 20
"""Bytes of a key file."""


def new_admin_token(home: Path, entropy: Callable[[int], bytes]) -> str:
    """A fresh token, 256 bits as hexadecimal, in ``<home>/admin.token`` (0600). Raises HomeUnusable.

    Anew at each start: a token that leaked is good until the node stops.
    """
    token = entropy(32).hex()
    path = home / TOKEN_FILE
    draft = path.with_suffix(".new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        draft.replace(path)
    except OSError as error:
        raise HomeUnusable(
            f"{path} cannot be written: {(error.strerror or 'unknown error').lower()}.",
            hint="Give this user write permission there, or choose another --home.",
        )
    return token


def read_key_file(path: Path | None) -> KeyRing:
    """The keys in the owner's file; none without one. Raises ConfigError."""
    if path is None:
        return KeyRing()
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise ConfigError(f"api.key_file: {path} cannot be read: {error.strerror}.", hint="Mend the path.")
    if len(data) > MOST:
        raise ConfigError(f"api.key_file: {path} is over {MOST} bytes.", hint="It holds one line a key.")
    try:
        return parse_keys(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"api.key_file: {path} is not UTF-8 text.", hint="It holds one line a key.")
