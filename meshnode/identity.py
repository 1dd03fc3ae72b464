"""Who this node is: a key for peers, a key for the ledger, and the peer id that follows from the first.

Both are Ed25519 seeds in files of the home, ``peer.key`` and ``ledger.key``, readable by their owner only. They are
separate so that one can be replaced without the other. A peer id is the identity multihash of the public key's
protobuf in base58 (libp2p specification, "Peer Ids and Keys"), worked out here so that no door of libp2p
has to be opened to know one's own name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshnode.curve import of_small_order as of_small_order
from meshnode.domain import PeerId
from meshnode.errors import DamagedKey, DiskFull, HomeUnusable, MeshnodeError

log = structlog.get_logger()

SEED_BYTES = 32
PEER_KEY = "peer.key"
LEDGER_KEY = "ledger.key"
VAULT_KEY = "vault.key"

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# multihash: code 0 (identity), 36 bytes; protobuf: field 1 (type) = 1 (Ed25519), field 2 (data) of 32 bytes
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_MAX_FILE = 4096
_HEADER = "meshnode-key v1"


class Identity:
    """The two secrets of a node. Never shown by ``repr``, so that no log can hold them."""

    def __init__(self, peer_seed: bytes, ledger_seed: bytes) -> None:
        if len(peer_seed) != SEED_BYTES or len(ledger_seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        self.peer_seed = peer_seed
        self.ledger_seed = ledger_seed
        self.peer_public = _public(peer_seed)
        self.ledger_public = _public(ledger_seed)
        self.peer_id = peer_id_of(self.peer_public)
        self._peer_key = Ed25519PrivateKey.from_private_bytes(peer_seed)
        self._ledger_key = Ed25519PrivateKey.from_private_bytes(ledger_seed)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def sign_as_peer(self, message: bytes) -> bytes:
        """The peer key's Ed25519 signature (64 bytes) of ``message``: for offers."""
        return self._peer_key.sign(message)

    def sign_for_ledger(self, message: bytes) -> bytes:
        """The ledger key's Ed25519 signature (64 bytes) of ``message``: for asks and receipts."""
        return self._ledger_key.sign(message)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (Ed25519, RFC 8032) of ``message`` is by ``public_key``. Never raises.

    A key of small order is refused (:mod:`meshnode.curve`): the library takes signatures that anybody can make for it.
    """
    if len(public_key) != 32 or len(signature) != 64 or of_small_order(public_key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def network_tag(name: str, psk: bytes | None) -> bytes:
    """Eight bytes that stand for a network in offers, asks and receipts: its name and, where it has one, its key."""
    return hashlib.sha256(b"meshnode network v1\0" + name.encode() + b"\0" + (psk or b"")).digest()[:8]


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw Ed25519 public key (32 bytes)."""
    return PeerId(_to_base58(_PEER_ID_PREFIX + public_key))


def public_key_of(peer_id: str) -> bytes:
    """The raw Ed25519 public key (32 bytes) that a peer id holds. Raises ValueError for anything else."""
    if len(peer_id) > 64:
        raise ValueError("too long for a peer id")
    raw = _from_base58(peer_id)
    if len(raw) != len(_PEER_ID_PREFIX) + 32 or not raw.startswith(_PEER_ID_PREFIX):
        raise ValueError("not the peer id of an Ed25519 key")
    return raw[len(_PEER_ID_PREFIX) :]


def load_or_create(home: Path, entropy: Callable[[int], bytes]) -> Identity:
    """The identity kept in ``home``, made there (and the home with it) the first time.

    ``entropy`` gives that many random bytes. Nothing that exists is ever overwritten. Raises DamagedKey when
    a key file does not hold its key, HomeUnusable when the home cannot be read or written, DiskFull.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        seeds = [_load_or_create(home / name, entropy) for name in (PEER_KEY, LEDGER_KEY)]
    except OSError as error:
        raise _unusable(home, error) from error
    return Identity(*seeds)


def vault_key(home: Path, entropy: Callable[[int], bytes]) -> bytes:
    """The 32 bytes that seal what the node keeps for its users, in ``vault.key`` of the home; made the first time.

    Kept and checked as the identity's keys are, and raises as :func:`load_or_create` does.
    """
    try:
        return _load_or_create(home / VAULT_KEY, entropy)
    except OSError as error:
        raise _unusable(home, error) from error


def new_vault_key(home: Path, entropy: Callable[[int], bytes]) -> bytes:
    """A key in the place of :func:`vault_key`'s: whatever that sealed, in copies of the database too, is closed."""
    drop_vault_key(home)
    return vault_key(home, entropy)


def drop_vault_key(home: Path) -> None:
    """Delete the vault's key, if there is one. Raises HomeUnusable."""
    try:
        (home / VAULT_KEY).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(home, error) from error


def _load_or_create(path: Path, entropy: Callable[[int], bytes]) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path, entropy(SEED_BYTES))
        return _read(path)


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise _damaged(path, "is not a regular file")
    with path.open("rb") as file:
        seed = _decode(path, file.read(_MAX_FILE + 1))
        _close_to_others(path, file.fileno())  # now that it is a key: a link may lead to something else
        return seed


def _close_to_others(path: Path, descriptor: int) -> None:
    """Mend permissions that let others read the key, and say so: it may have been read already."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if not mode & 0o077:
        return
    log.warning("key_file_was_open_to_others", path=str(path), mode=oct(mode), mended=oct(0o600))
    try:
        os.fchmod(descriptor, 0o600)
    except PermissionError as error:
        raise HomeUnusable(
            f"{path} can be read by others (mode {mode:o}) and is not ours to mend.",
            hint=f"Give it to this user: chown $(id -un) {path} && chmod 600 {path}",
        ) from error


def _create(path: Path, seed: bytes) -> None:
    """Write a key file whole or not at all; an existing one stays."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # of a start that was cut off before the key had its name: nobody used it
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_encode(path.name, seed))
            file.flush()
            os.fsync(file.fileno())
        _name(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _name(draft: Path, path: Path) -> None:
    """Give the draft its name. A hard link never replaces a file that is there."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, "a key is there already", str(path)) from error
        draft.rename(path)  # a file system without hard links


def _encode(name: str, seed: bytes) -> bytes:
    holder = "reads what this node keeps for its users" if name == VAULT_KEY else "is this node"
    lines = (_HEADER, f"# Who has this file {holder}: show it to nobody, and keep a copy in a safe place.")
    return "\n".join((*lines, f"{name} {seed.hex()} {_checksum(name, seed)}", "")).encode()


def _decode(path: Path, data: bytes) -> bytes:
    """The seed in a key file's bytes. Raises DamagedKey."""
    if not data.strip(b"\0\r\n\t "):
        raise _damaged(path, "is empty")
    if len(data) > _MAX_FILE:
        raise _damaged(path, "is too long for a key file")
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    if lines[0] != _HEADER:
        raise _damaged(path, _strange_header(lines[0]))
    fields = [line.split() for line in lines[1:] if line and not line.startswith("#")]
    if len(fields) != 1 or len(fields[0]) != 3:
        raise _damaged(path, "does not hold exactly one key")
    name, text, checksum = fields[0]
    if name != path.name:
        raise _damaged(path, f"holds the key of {name[:32]!r}")
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES or checksum != _checksum(name, seed):
        raise _damaged(path, "has a wrong checksum")
    return seed


def _strange_header(line: str) -> str:
    newer = line.startswith("meshnode-key v")
    return "was written by a newer meshnode" if newer else "does not begin like a key file"


def _checksum(name: str, seed: bytes) -> str:
    return hashlib.sha256(b"meshnode key file v1\0" + name.encode() + b"\0" + seed).hexdigest()[:16]


def _damaged(path: Path, reason: str) -> DamagedKey:
    without = "go on without what it sealed" if path.name == VAULT_KEY else "become a new peer"
    return DamagedKey(
        f"The key file {path} {reason}.",
        hint=f"Put a backup in its place, or move it away to {without}: mv {path} {path}.damaged",
    )


def _unusable(home: Path, error: OSError) -> MeshnodeError:
    where = error.filename or home
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No space is left to write {where}.", hint="Free some space, or choose another --home.")
    return HomeUnusable(
        f"The home {home} cannot be used: {where}: {error.strerror}.",
        hint="Make it readable and writable for this user, or choose another with --home.",
    )


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _to_base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


def _from_base58(text: str) -> bytes:
    number = 0
    for letter in text:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            raise ValueError(f"{letter!r} is not a base58 digit")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
