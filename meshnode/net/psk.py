"""The key of a private network (libp2p's pre-shared key: https://github.com/libp2p/specs/tree/master/pnet)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshnode.errors import ConfigError

BYTES: Final = 32
_HINT: Final = "Put 64 hexadecimal digits in it: (umask 077; openssl rand -hex 32 > FILE), the same on every machine."


def read_network_key(path: Path | None) -> bytes | None:
    """The 32 bytes in a file of 64 hexadecimal digits; none without a file. Raises ConfigError, never quoting it."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(4096)
    except OSError as error:
        raise ConfigError(f"net.private_network: {path} cannot be read: {error.strerror}.", hint=_HINT)
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != BYTES:
        raise ConfigError(f"net.private_network: {path} does not hold a key of {BYTES} bytes.", hint=_HINT)
    return key
