"""A card says what its file is, and notices when it is another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshnode.domain import ModelId
from meshnode.errors import ModelFileRefused
from meshnode.models.card import open_model, read_card, unchanged
from tests.kit.tinygguf import hostile_ggufs, write_tiny_gguf


def test_a_card_describes_its_file(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "Tiny-Talker-F32.gguf")
    card = read_card(path, added=7, source="here")
    assert (card.id, card.path, card.size) == ("tiny-talker:f32", str(path), path.stat().st_size)
    assert (card.architecture, card.quantisation, card.context_length, card.layers) == ("llama", "f32", 2048, 2)
    assert (card.vocab_size, card.added, card.source, card.managed) == (280, 7, "here", False)
    assert card.template_sha256


def test_a_name_or_an_id_may_be_given(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "x.gguf")
    assert read_card(path, name="Chosen").id == "chosen:f32"
    assert read_card(path, id=ModelId("fixed:q4_1")).id == "fixed:q4_1"


def test_changes_are_noticed(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "x.gguf")
    card = read_card(path)
    assert unchanged(card)
    os.utime(path, ns=(1, 1))
    assert not unchanged(card)
    path.unlink()
    assert not unchanged(card)


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    hostile = hostile_ggufs(tmp_path)
    with pytest.raises(ModelFileRefused, match=r"^truncated_data\.gguf: the GGUF is cut short"):
        read_card(hostile["truncated_data"])


@pytest.mark.parametrize("name", ["missing.gguf", "folder", "pipe", "nul\0"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileRefused):
        open_model(tmp_path / name)
