"""Who a node is: its keys survive, are never overwritten, and damage is found."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from structlog.testing import capture_logs

from meshnode.errors import DamagedKey, HomeUnusable
from meshnode.identity import (
    Identity,
    load_or_create,
    network_tag,
    new_vault_key,
    peer_id_of,
    public_key_of,
    vault_key,
    verify,
)
from wiring.invalid import FORGED, SMALL_KEYS

SEEDS = st.binary(min_size=32, max_size=32)


def entropy(letters: bytes = b"abcdefgh") -> Callable[[int], bytes]:
    """Gives 32 times the next letter each time it is asked."""
    source = iter(letters)
    return lambda size: bytes([next(source)]) * size


def none_needed(size: int) -> bytes:
    pytest.fail("a key was made although there is one")


@given(SEEDS)
def test_the_peer_id_is_libp2ps(seed: bytes) -> None:
    identity = Identity(seed, bytes(32))
    assert identity.peer_id == str(ID.from_pubkey(create_new_key_pair(seed).public_key))
    assert identity.peer_id.startswith("12D3KooW")
    assert public_key_of(identity.peer_id) == identity.peer_public


@given(st.text(max_size=80) | st.text("123456789ABCDEFabcdef", max_size=80))
def test_what_is_no_peer_id_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert peer_id_of(public_key_of(text)) == text


def test_the_example_of_the_specification() -> None:
    # the Ed25519 key of the libp2p "peer-ids" specification's test vectors
    seed = bytes.fromhex("7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d")
    public = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
    assert Identity(seed, bytes(32)).peer_public.hex() == public


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        Identity(b"short", bytes(32))


def test_secrets_are_not_shown() -> None:
    identity = Identity(b"p" * 32, b"l" * 32)
    assert repr(identity) == f"Identity({identity.peer_id})"
    assert identity.ledger_public == Ed25519PrivateKey.from_private_bytes(b"l" * 32).public_key().public_bytes_raw()


def test_the_first_start_makes_keys_that_the_next_one_finds(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = load_or_create(home, entropy())
    assert (first.peer_seed, first.ledger_seed) == (b"a" * 32, b"b" * 32)
    again = load_or_create(home, none_needed)
    assert (again.peer_seed, again.ledger_seed) == (first.peer_seed, first.ledger_seed)
    assert again.peer_id == first.peer_id
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert sorted(file.name for file in home.iterdir()) == ["ledger.key", "peer.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}


def test_a_new_ledger_key_leaves_the_peer_what_it_is(tmp_path: Path) -> None:
    before = load_or_create(tmp_path, entropy())
    (tmp_path / "ledger.key").unlink()
    after = load_or_create(tmp_path, entropy(b"z"))
    assert after.peer_id == before.peer_id
    assert after.ledger_seed == b"z" * 32


def test_what_a_start_that_was_cut_off_left_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "peer.key.new").write_bytes(b"meshnode-ke")
    assert load_or_create(tmp_path, entropy()).peer_seed == b"a" * 32
    assert not (tmp_path / "peer.key.new").exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: bytes(len(data)), "is empty"),
        (lambda data: data[: len(data) // 2], "key"),
        (lambda data: data.replace(b"61", b"62", 1), "wrong checksum"),
        (lambda data: data.replace(b"61", b"xx", 1), "wrong checksum"),
        (lambda data: data.replace(b" v1", b" v2"), "newer meshnode"),
        (lambda data: b"-----BEGIN PRIVATE KEY-----\n", "does not begin like a key file"),
        (lambda data: os.urandom(300), "does not begin like a key file"),
        (lambda data: data + data.splitlines()[-1], "exactly one key"),
        (lambda data: data + b"#" * 5000, "too long"),
        (lambda data: data.replace(b"peer.key", b"ledger.key"), "ledger.key"),
    ],
)
def test_damage_is_found_and_the_file_left_alone(tmp_path: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    load_or_create(tmp_path, entropy())
    path = tmp_path / "peer.key"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(DamagedKey, match=reason) as caught:
        load_or_create(tmp_path, none_needed)
    assert str(path) in caught.value.message
    assert "backup" in caught.value.hint
    assert b"a".hex() * 8 not in str(caught.value)
    assert path.read_bytes() == damaged


def test_any_flipped_bit_of_the_key_is_found(tmp_path: Path) -> None:
    load_or_create(tmp_path, entropy())
    path = tmp_path / "peer.key"
    whole = path.read_bytes()
    start = whole.index(b"peer.key ")
    for position in range(start, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DamagedKey):
            load_or_create(tmp_path, none_needed)


def test_a_key_that_others_could_read_is_closed_to_them_and_said_so(tmp_path: Path) -> None:
    load_or_create(tmp_path, entropy())
    (tmp_path / "peer.key").chmod(0o644)
    with capture_logs() as logs:
        load_or_create(tmp_path, none_needed)
    assert [entry["event"] for entry in logs] == ["key_file_was_open_to_others"]
    assert stat.S_IMODE((tmp_path / "peer.key").stat().st_mode) == 0o600


def test_what_is_no_key_keeps_its_permissions(tmp_path: Path) -> None:
    load_or_create(tmp_path, entropy())
    other = tmp_path / "accounts"
    other.write_text("root:x:0:0")
    other.chmod(0o644)
    (tmp_path / "peer.key").unlink()
    (tmp_path / "peer.key").symlink_to(other)
    with pytest.raises(DamagedKey):
        load_or_create(tmp_path, none_needed)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_a_folder_in_the_keys_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "peer.key").mkdir()
    with pytest.raises(DamagedKey, match="not a regular file"):
        load_or_create(tmp_path, none_needed)


def test_a_home_that_is_a_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(HomeUnusable, match="home"):
        load_or_create(tmp_path / "home", entropy())


def test_a_home_that_cannot_be_made_is_unusable() -> None:
    with pytest.raises(HomeUnusable, match="/proc/none"):  # not even root makes folders there
        load_or_create(Path("/proc/none/home"), entropy())


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    """Another process may put its key there between our look and our writing."""

    def meanwhile(size: int) -> bytes:
        if not (tmp_path / "peer.key").exists():
            load_or_create(tmp_path, entropy(b"xy"))
        return b"o" * size

    with pytest.raises(HomeUnusable, match="exists"):
        load_or_create(tmp_path, meanwhile)
    assert load_or_create(tmp_path, none_needed).peer_seed == b"x" * 32


# --- signatures -----------------------------------------------------------------------------------

ORDER = 2**252 + 27742317777372353535851937790883648493
SIGNER = Identity(b"p" * 32, b"l" * 32)


@given(st.binary(max_size=80))
def test_a_signature_is_good_for_its_key_and_message_alone(message: bytes) -> None:
    as_peer, for_ledger = SIGNER.sign_as_peer(message), SIGNER.sign_for_ledger(message)
    assert verify(SIGNER.peer_public, as_peer, message)
    assert verify(SIGNER.ledger_public, for_ledger, message)
    assert not verify(SIGNER.peer_public, for_ledger, message)
    assert not verify(SIGNER.ledger_public, as_peer, message)
    assert not verify(SIGNER.peer_public, as_peer, message + b"x")


def test_the_second_example_of_the_specification_of_ed25519() -> None:
    # RFC 8032 section 7.1, TEST 2
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    identity = Identity(seed, bytes(32))
    assert identity.sign_as_peer(b"\x72").hex() == signature
    assert verify(identity.peer_public, bytes.fromhex(signature), b"\x72")


@pytest.mark.parametrize("bit", range(0, 512, 7))
def test_any_flipped_bit_of_a_signature_is_found(bit: int) -> None:
    signature = bytearray(SIGNER.sign_as_peer(b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(SIGNER.peer_public, bytes(signature), b"message")


def test_a_signature_has_no_second_spelling() -> None:
    """S + the group's order gives the same point; RFC 8032 wants S below it."""
    signature = SIGNER.sign_as_peer(b"message")
    other = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(SIGNER.peer_public, signature[:32] + other, b"message")


@pytest.mark.parametrize("key", SMALL_KEYS, ids=bytes.hex)
def test_a_key_of_small_order_signs_nothing(key: bytes) -> None:
    assert not any(verify(key, FORGED, number.to_bytes(2, "big")) for number in range(64))
    assert not any(verify(key, point + bytes(32), b"message") for point in SMALL_KEYS)


def test_the_library_itself_would_take_a_forgery() -> None:
    """Else the refusal would prove nothing: R = identity, S = 0 is good for any message of key 01 00..00."""
    key = Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31))
    for number in range(64):
        key.verify(FORGED, number.to_bytes(2, "big"))


@given(st.binary(max_size=70), st.binary(max_size=70), st.binary(max_size=70))
def test_verifying_never_raises(key: bytes, signature: bytes, message: bytes) -> None:
    assert not verify(key, signature, message)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_no_key_and_signature_by_chance_are_good(key: bytes, signature: bytes) -> None:
    assert not verify(key, signature, b"message")


def test_a_network_is_its_name_and_its_key() -> None:
    tags = [network_tag("meshnode", None), network_tag("meshnode", b"k" * 32), network_tag("home", b"k" * 32)]
    assert len(set(tags)) == 3
    assert {len(tag) for tag in tags} == {8}
    assert network_tag("meshnode", None) == hashlib.sha256(b"meshnode network v1\0meshnode\0").digest()[:8]


def test_the_vaults_key_is_made_once_private_and_apart_from_the_identity(tmp_path: Path) -> None:
    assert vault_key(tmp_path, entropy(b"v")) == b"v" * 32
    assert vault_key(tmp_path, none_needed) == b"v" * 32
    assert new_vault_key(tmp_path, entropy(b"w")) == vault_key(tmp_path, none_needed) == b"w" * 32
    path = tmp_path / "vault.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("damaged")
    with pytest.raises(DamagedKey, match=r"vault\.key.*without what it sealed"):
        vault_key(tmp_path, none_needed)
