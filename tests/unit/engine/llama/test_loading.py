"""What loading gives, how it fails, and that it keeps quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode.engine.backend import Row
from meshnode.engine.llama.library import LOG
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from meshnode.errors import ModelFailed
from tests.kit.llamas import cpu_load
from tests.kit.tinygguf import write_tiny_gguf
from tests.kit.worker_process import ENVIRONMENT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny random model, in a place with a difficult name."""
    return write_tiny_gguf(tmp_path / "modèle 模型.gguf", layers=3, ctx=1024)


@pytest.mark.parametrize(("max_ctx", "expected"), [(32768, 1024), (512, 512)])
def test_context_is_the_models_own_within_the_bound(model: Path, max_ctx: int, expected: int) -> None:
    backend = open_llama(cpu_load(model, n_ctx=0, max_ctx=max_ctx))
    assert backend.info.n_ctx == expected
    backend.close()


def test_batch_is_never_too_small_for_all_slots(model: Path) -> None:
    asked = Load(path=str(model), n_ctx=256, n_seq_max=16, n_batch=4, n_ubatch=4, threads=1, gpu_layers=0)
    backend = open_llama(asked)
    backend.decode([Row(seq, 1, 0, True) for seq in range(16)])
    assert all(backend.logits(row).shape == (backend.info.n_vocab,) for row in range(16))
    backend.close()


def test_progress_is_told_from_none_to_all(model: Path) -> None:
    told: list[float] = []

    def progress(fraction: float) -> bool:
        told.append(fraction)
        return True

    open_llama(cpu_load(model), progress=progress).close()
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_load_stops_when_nobody_wants_it_any_more(model: Path) -> None:
    with pytest.raises(ModelFailed):
        open_llama(cpu_load(model), progress=lambda _: False)


def test_missing_file_is_named_as_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match=r"No such file|failed to open"):
        open_llama(cpu_load(tmp_path / "absent.gguf"))


def test_truncated_model_fails_with_the_librarys_reason(model: Path) -> None:
    os.truncate(model, model.stat().st_size // 2)
    with pytest.raises(ModelFailed, match=r"cannot load the model: .+"):
        open_llama(cpu_load(model))


def test_a_load_that_failed_does_not_taint_the_next(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFailed):
        open_llama(cpu_load(tmp_path / "absent.gguf"))
    open_llama(cpu_load(model)).close()
    assert LOG.reason == ""


GREEDY_FOR_MEMORY = """
import resource, sys
from meshnode.engine.llama.loading import open_llama
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
    backend = open_llama(cpu_load(model))
    backend.decode([Row(0, 1, 0, True)])
    backend.close()
    assert capfd.readouterr() == ("", "")
