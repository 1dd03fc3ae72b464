"""A model in memory: what it says of itself, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.engine.backend import Fim, Row
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.llama.model import LlamaBackend
from meshnode.errors import ModelFailed
from tests.kit.llamas import cpu_load
from tests.kit.tinygguf import CHATML, U32, Value, tiny_gguf, write_tiny_gguf


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny random model, in a place with a difficult name."""
    return write_tiny_gguf(tmp_path / "modèle 模型.gguf", layers=3, ctx=1024)


@pytest.fixture
def backend(model: Path) -> Iterator[LlamaBackend]:
    """It, loaded."""
    backend = open_llama(cpu_load(model, n_ctx=512, n_seq_max=3))
    yield backend
    backend.close()


def test_info_is_the_models(backend: LlamaBackend) -> None:
    info = backend.info
    assert (info.n_ctx, info.n_ctx_train, info.n_seq_max, info.n_layers) == (512, 1024, 3, 3)
    assert (info.threads, info.threads_batch, info.kv_unified) == (1, 1, True)
    assert (info.gpu_layers, info.used_devices) == (0, ("CPU",))
    assert info.n_params > 1000
    assert info.size_bytes > 1000
    assert info.load_s > 0


def test_template_and_special_texts(backend: LlamaBackend) -> None:
    assert backend.chat_template == CHATML
    assert backend.info.has_template
    assert len(backend.info.template_sha256) == 64
    assert backend.eos_text.startswith("<|")


def test_model_without_a_template_has_none(tmp_path: Path) -> None:
    backend = open_llama(cpu_load(write_tiny_gguf(tmp_path / "plain.gguf", template=None)))
    assert (backend.chat_template, backend.info.has_template, backend.info.template_sha256) == (None, False, "")
    backend.close()


def test_the_tokens_to_fill_in_with_are_those_of_the_file_all_three_or_none(tmp_path: Path) -> None:
    made, found = tiny_gguf(vocab=300), []
    for name, token in (("pre", 291), ("suf", 292), ("mid", 293)):
        made.metadata[f"tokenizer.ggml.fim_{name}_token_id"] = Value(U32, token)
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(made.encode())
        backend = open_llama(cpu_load(path))
        found.append(backend.fim)
        backend.close()
    assert found == [None, None, Fim(291, 292, 293)]


def test_more_outputs_than_slots_are_refused_not_died_of(backend: LlamaBackend) -> None:
    with pytest.raises(ValueError, match="output of 3 rows"):
        backend.decode([Row(0, 1, place, True) for place in range(4)])


def test_positions_with_a_hole_fail_and_the_model_goes_on(backend: LlamaBackend) -> None:
    backend.decode([Row(0, 1, 0, True)])
    with pytest.raises(ModelFailed):
        backend.decode([Row(0, 1, 5, True)])
    backend.decode([Row(0, 1, 1, True)])
