"""API keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import ConfigError
from meshnode.gateway.keys import PREFIX, KeyRing, hash_of, new_key, parse_keys

ONE, TWO = new_key(bytes(32)), new_key(b"\xff" * 32)


def test_a_key_is_known_by_its_hash_alone_and_its_holder_by_the_hashs_beginning() -> None:
    ring = parse_keys(f"# mine\n{hash_of(ONE)}  laptop\n\n{hash_of(TWO).upper()} # phone\n")
    assert len(ring) == 2
    assert ring.holder(ONE) == f"key:{hash_of(ONE)[:16]}"
    assert ring.holder(TWO) != ring.holder(ONE)


@settings(deadline=None)
@given(st.text())
def test_no_other_text_is_a_key(text: str) -> None:
    assert parse_keys(hash_of(ONE)).holder(text.encode("utf-8", "replace").decode()) is None or text == ONE


def test_a_key_carries_all_its_bits_and_its_prefix() -> None:
    assert ONE.startswith(PREFIX)
    assert len(ONE) == len(PREFIX) + 43
    assert "=" not in ONE


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n"])
def test_a_file_without_keys_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_keys(text)


def test_a_key_written_in_the_clear_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigError, match="line 2") as caught:
        parse_keys(f"{hash_of(ONE)}\n{TWO}\n")
    assert TWO not in str(caught.value)


def test_an_empty_ring_knows_nobody() -> None:
    assert KeyRing().holder("") is None
