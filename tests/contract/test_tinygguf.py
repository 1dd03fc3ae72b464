"""The files the kit makes are to llama.cpp what they claim to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.loadgguf import outcomes
from tests.kit.tinygguf import ABORTING, BROKEN_MODELS, hostile_ggufs, tiny_gguf, write_tiny_gguf


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What llama.cpp made of each hostile file."""
    return outcomes(hostile_ggufs(tmp_path_factory.mktemp("hostile")).values())


def test_tiny_models_of_several_shapes_load_and_speak_ascii(tmp_path: Path) -> None:
    files = [
        write_tiny_gguf(tmp_path / "small.gguf"),
        write_tiny_gguf(tmp_path / "wide.gguf", layers=3, embd=96, heads=6, kv_heads=6, vocab=1000, seed=2),
        write_tiny_gguf(tmp_path / "bare.gguf", template=None, seed=3),
    ]
    said = outcomes(files)
    assert {name: outcome[:8] for name, outcome in said.items()} == dict.fromkeys(("small", "wide", "bare"), "loaded: ")
    assert all(outcome.isascii() and len(outcome) >= 24 for outcome in said.values())
    assert len(set(said.values())) == 3


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert tiny_gguf(seed=4).encode() == tiny_gguf(seed=4).encode() != tiny_gguf(seed=5).encode()


def test_llama_cpp_loads_none_of_the_hostile_files(hostile: dict[str, str]) -> None:
    assert len(hostile) > 30
    assert {name: outcome for name, outcome in hostile.items() if name not in ABORTING and outcome != "refused"} == {}


def test_some_hostile_files_end_the_process(hostile: dict[str, str]) -> None:
    assert ABORTING <= BROKEN_MODELS <= set(hostile)
    assert {hostile[name] for name in ABORTING} == {"killed by signal 6"}
