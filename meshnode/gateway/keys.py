"""API keys: ``mesh_live_`` and 256 random bits, kept as SHA-256. Pure.

A key file has one hash a line (64 hexadecimal digits), perhaps a name after it; ``#`` begins a comment. A fast hash is
enough because the keys are random: there is no dictionary to try.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from meshnode.domain import CallerId
from meshnode.errors import ConfigError

PREFIX: Final = "mesh_live_"
_LINE: Final = re.compile(r"([0-9a-fA-F]{64})(?:\s+(\S.*))?")


class KeyRing:
    """The keys a node accepts, as hashes."""

    def __init__(self, hashes: tuple[bytes, ...] = ()) -> None:
        self._hashes = hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def holder(self, key: str) -> CallerId | None:
        """Who holds this key; ``None`` when nobody does. Takes the same time wherever it is in the ring."""
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for known in self._hashes:
            if hmac.compare_digest(known, digest):
                found = CallerId(f"key:{known.hex()[:16]}")
        return found


def parse_keys(text: str) -> KeyRing:
    """The ring in a key file's text. Raises ConfigError naming the line, never quoting it: it may be a key."""
    hashes = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            raise ConfigError(
                f"line {number} of the key file is not a SHA-256 hash of a key.",
                hint="Each line is 64 hexadecimal digits, perhaps a name after them.",
            )
        hashes.append(bytes.fromhex(match[1]))
    if not hashes:
        raise ConfigError("the key file holds no key.", hint="Put the SHA-256 of a key in it, one a line.")
    return KeyRing(tuple(hashes))


def new_key(random: bytes) -> str:
    """A key from 32 random bytes."""
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def hash_of(key: str) -> str:
    """The line a key has in the key file."""
    return hashlib.sha256(key.encode()).hexdigest()
