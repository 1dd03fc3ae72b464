"""The door to llama.cpp: what loading gives, how it fails, and that it keeps quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.engine import llama
from meshnode.engine.backend import Row
from meshnode.engine.library_log import DEBUG
from meshnode.engine.pipe import Device, Load
from meshnode.errors import ModelFailed
from tests.kit.tinygguf import CHATML, write_tiny_gguf
from tests.kit.worker_process import ENVIRONMENT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny random model, in a place with a difficult name."""
    return write_tiny_gguf(tmp_path / "modèle 模型.gguf", layers=3, ctx=1024)


@pytest.fixture
def backend(model: Path) -> Iterator[llama.LlamaBackend]:
    """It, loaded."""
    backend = llama.open_llama(load(model, n_ctx=512, n_seq_max=3))
    yield backend
    backend.close()


def load(path: Path, *, n_ctx: int = 256, n_seq_max: int = 2, max_ctx: int = 32768) -> Load:
    """A load on one CPU thread."""
    return Load(path=str(path), n_ctx=n_ctx, n_seq_max=n_seq_max, max_ctx=max_ctx, threads=1, gpu_layers=0)


def test_library_names_its_backends_and_devices() -> None:
    llama.open_library()
    assert "CPU" in llama.backends()
    cpu = next(device for device in llama.devices() if device.kind == "cpu")
    assert cpu.memory_total > 2**20
    assert cpu.description


def test_info_is_the_models(backend: llama.LlamaBackend) -> None:
    info = backend.info
    assert (info.n_ctx, info.n_ctx_train, info.n_seq_max, info.n_layers) == (512, 1024, 3, 3)
    assert (info.threads, info.threads_batch, info.kv_unified) == (1, 1, True)
    assert (info.gpu_layers, info.used_devices) == (0, ("CPU",))
    assert info.n_params > 1000
    assert info.size_bytes > 1000
    assert info.load_s > 0


def test_template_and_special_texts(backend: llama.LlamaBackend) -> None:
    assert backend.chat_template == CHATML
    assert backend.info.has_template
    assert len(backend.info.template_sha256) == 64
    assert backend.eos_text.startswith("<|")


def test_model_without_a_template_has_none(tmp_path: Path) -> None:
    backend = llama.open_llama(load(write_tiny_gguf(tmp_path / "plain.gguf", template=None)))
    assert (backend.chat_template, backend.info.has_template, backend.info.template_sha256) == (None, False, "")
    backend.close()


@pytest.mark.parametrize(("max_ctx", "expected"), [(32768, 1024), (512, 512)])
def test_context_is_the_models_own_within_the_bound(model: Path, max_ctx: int, expected: int) -> None:
    backend = llama.open_llama(load(model, n_ctx=0, max_ctx=max_ctx))
    assert backend.info.n_ctx == expected
    backend.close()


def test_batch_is_never_too_small_for_all_slots(model: Path) -> None:
    asked = Load(path=str(model), n_ctx=256, n_seq_max=16, n_batch=4, n_ubatch=4, threads=1, gpu_layers=0)
    backend = llama.open_llama(asked)
    backend.decode([Row(seq, 1, 0, True) for seq in range(16)])
    assert all(backend.logits(row).shape == (backend.info.n_vocab,) for row in range(16))
    backend.close()


def test_more_outputs_than_slots_are_refused_not_died_of(backend: llama.LlamaBackend) -> None:
    with pytest.raises(ValueError, match="output of 3 rows"):
        backend.decode([Row(0, 1, place, True) for place in range(4)])


def test_positions_with_a_hole_fail_and_the_model_goes_on(backend: llama.LlamaBackend) -> None:
    backend.decode([Row(0, 1, 0, True)])
    with pytest.raises(ModelFailed):
        backend.decode([Row(0, 1, 5, True)])
    backend.decode([Row(0, 1, 1, True)])


def test_progress_is_told_from_none_to_all(model: Path) -> None:
    told: list[float] = []

    def progress(fraction: float) -> bool:
        told.append(fraction)
        return True

    llama.open_llama(load(model), progress=progress).close()
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_load_stops_when_nobody_wants_it_any_more(model: Path) -> None:
    with pytest.raises(ModelFailed):
        llama.open_llama(load(model), progress=lambda _: False)


def test_missing_file_is_named_as_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match=r"No such file|failed to open"):
        llama.open_llama(load(tmp_path / "absent.gguf"))


def test_truncated_model_fails_with_the_librarys_reason(model: Path) -> None:
    os.truncate(model, model.stat().st_size // 2)
    with pytest.raises(ModelFailed, match=r"cannot load the model: .+"):
        llama.open_llama(load(model))


def test_a_load_that_failed_does_not_taint_the_next(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFailed):
        llama.open_llama(load(tmp_path / "absent.gguf"))
    llama.open_llama(load(model)).close()
    assert llama.LOG.reason == ""


GREEDY_FOR_MEMORY = """
import resource, sys
from meshnode.engine.llama import open_llama
from meshnode.engine.pipe import Load
from meshnode.errors import ModelFailed
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
try:
    open_llama(Load(path=sys.argv[1], n_ctx=2**26, threads=1, gpu_layers=0))
except ModelFailed as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space")
def test_context_that_there_is_no_memory_for_is_a_failure_with_a_hint(model: Path) -> None:
    command = [sys.executable, "-c", GREEDY_FOR_MEMORY, str(model)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True)
    assert "cannot make a context of 67108864 tokens" in done.stdout
    assert "alloc" in done.stdout
    assert "smaller context" in done.stdout


def test_nothing_is_printed_while_all_goes_well(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = llama.open_llama(load(model))
    backend.decode([Row(0, 1, 0, True)])
    backend.close()
    assert capfd.readouterr() == ("", "")


def test_layers_are_counted_where_they_really_went() -> None:
    llama.LOG.forget()
    for layer, device in enumerate(["CPU", "CUDA0", "CUDA0", "CUDA1", "CUDA1"]):
        llama.LOG.add(DEBUG, f"load_tensors: layer {layer:3d} assigned to device {device}, is_swa = 0\n")
    kinds = {"CPU": "cpu", "CUDA0": "gpu", "CUDA1": "gpu"}
    seen = [Device(name=n, description="", kind=k, memory_total=0, memory_free=0) for n, k in kinds.items()]
    placed = llama.placement(4, seen)
    assert placed == llama.Placement(gpu_layers=3, devices=("CPU", "CUDA0", "CUDA1"))
    llama.LOG.forget()
