"""The secrets on disk: private, fresh, and never quoted in an error."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from meshnode.errors import ConfigError, HomeUnusable
from meshnode.gateway.credentials import MOST, TOKEN_FILE, new_admin_token, read_key_file
from meshnode.gateway.keys import hash_of, new_key


def test_a_token_is_private_and_new_at_each_start(tmp_path: Path) -> None:
    first = new_admin_token(tmp_path, os.urandom)
    second = new_admin_token(tmp_path, os.urandom)
    path = tmp_path / TOKEN_FILE
    assert first != second
    assert len(second) == 64
    assert path.read_text() == second + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [TOKEN_FILE]


def test_a_token_left_half_written_or_planted_as_a_link_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / TOKEN_FILE).with_suffix(".new").symlink_to(victim)
    token = new_admin_token(tmp_path, os.urandom)
    assert victim.read_text() == "precious"
    assert (tmp_path / TOKEN_FILE).read_text() == token + "\n"


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match=TOKEN_FILE):
        new_admin_token(tmp_path / "absent", os.urandom)


def test_keys_are_read_from_the_owners_file(tmp_path: Path) -> None:
    key = new_key(os.urandom(32))
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{hash_of(key)} laptop\n")
    assert read_key_file(path).holder(key) is not None
    assert read_key_file(path).holder(new_key(os.urandom(32))) is None
    assert len(read_key_file(None)) == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"mesh_live_secret\n", b"", b"0" * (MOST + 1)])
def test_a_key_file_that_holds_something_else_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_key_file(path)
    assert "secret" not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_key_file(tmp_path / "absent")
