"""The key of a private network, as its owner keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.errors import ConfigError
from meshnode.net.psk import read_network_key


def test_sixty_four_digits_are_a_key(tmp_path: Path) -> None:
    path = tmp_path / "psk"
    path.write_text("ab" * 32 + "\n")
    assert read_network_key(path) == b"\xab" * 32
    assert read_network_key(None) is None


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"ab" * 33, b"secret" * 11, b"\xff" * 64])
def test_anything_else_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "psk"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        read_network_key(path)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_network_key(tmp_path / "absent")
