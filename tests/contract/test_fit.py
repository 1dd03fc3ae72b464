"""The estimate of what a model takes, against what llama.cpp says it took, over shapes and contexts.

Stated margin: the estimate is never more than 2 % below, and at most 12 % plus 8 MiB above.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import open_worker
from meshnode.models.card import read_card
from meshnode.models.fit import MIB, PROCESS, Fit, Memory, fit
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import U32, Gguf, Value, tiny_gguf

SHAPES: dict[str, Callable[[], Gguf]] = {
    "grouped heads": lambda: tiny_gguf(layers=4, embd=256, ffn=768, heads=8, kv_heads=2, ctx=8192),
    "a head of its own each": lambda: tiny_gguf(layers=4, embd=256, ffn=512, heads=8, kv_heads=8, ctx=8192),
    "a long feed-forward": lambda: tiny_gguf(layers=2, embd=256, ffn=2048, heads=8, kv_heads=4, ctx=8192),
    "a big vocabulary": lambda: tiny_gguf(layers=2, embd=128, ffn=256, heads=4, kv_heads=2, ctx=8192, vocab=60_000),
    "experts": lambda: mixture(experts=8, used=2),
}
"""Shapes of models, each with random weights."""


def mixture(*, experts: int, used: int, embd: int = 256, ffn: int = 512) -> Gguf:
    """A llama whose feed-forwards are mixtures of experts."""
    made = tiny_gguf(layers=2, embd=embd, ffn=ffn, heads=8, kv_heads=4, ctx=8192)
    made.metadata |= {
        "llama.expert_count": Value(U32, experts),
        "llama.expert_used_count": Value(U32, used),
    }
    rng = np.random.default_rng(1)
    for layer in ("blk.0.", "blk.1."):
        made.tensors[layer + "ffn_gate_inp.weight"] = rng.standard_normal((experts, embd)).astype(np.float32)
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            dense = made.tensors.pop(f"{layer}{name}.weight")
            made.tensors[f"{layer}{name}_exps.weight"] = np.repeat(dense[None], experts, axis=0)
    return made


@pytest.fixture(scope="module", params=list(SHAPES))
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each shape."""
    path: Path = tmp_path_factory.mktemp("shapes") / "shape.gguf"
    path.write_bytes(SHAPES[request.param]().encode())
    return path


def expected(path: Path, n_ctx: int) -> Fit:
    """What is reckoned."""
    return fit(read_card(path), Memory(ram_free=1 << 50), n_ctx=n_ctx)


def taken(path: Path, n_ctx: int) -> int:
    """Bytes of the library's buffers."""
    backend = open_llama(Load(path=str(path), n_ctx=n_ctx, threads=1, gpu_layers=0))
    try:
        return backend.info.memory
    finally:
        backend.close()


def resident_of(pid: int) -> int:
    """Bytes of main memory that a process takes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check(path: Path, n_ctx: int) -> None:
    """Within the margin."""
    estimate, real = expected(path, n_ctx).needed - PROCESS, taken(path, n_ctx)
    assert 0.98 * real <= estimate <= 1.12 * real + 8 * MIB, f"{estimate / MIB:.1f} for {real / MIB:.1f} MiB"


@pytest.mark.parametrize("n_ctx", [512, 8192, 32768])
def test_the_estimate_holds_for_every_shape(shaped: Path, n_ctx: int) -> None:
    check(shaped, n_ctx)


@pytest.mark.model
@pytest.mark.parametrize("n_ctx", [512, 2048, 8192, 32768])
def test_the_estimate_holds_for_smollm2(n_ctx: int) -> None:
    check(smollm2_path(), n_ctx)


@pytest.mark.model
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells a process's memory by /proc")
async def test_a_worker_takes_what_was_estimated() -> None:
    path = smollm2_path()
    load = Load(path=str(path), n_ctx=8192, threads=1, gpu_layers=0)
    async with open_worker(load, spawn=worker_spawner({})) as engine:
        resident = resident_of(engine.pid)
        told = engine.info.memory
    estimate = expected(path, 8192).needed
    assert resident == pytest.approx(estimate, rel=0.15)
    assert told == pytest.approx(estimate, rel=0.15)


def test_a_mixture_reads_only_the_experts_in_use(tmp_path: Path) -> None:
    path = tmp_path / "mixture.gguf"
    path.write_bytes(mixture(experts=8, used=2).encode())
    card = read_card(path)
    experts = 2 * 3 * 8 * 256 * 512 * 4
    table = 280 * 256 * 4
    assert card.active_bytes == pytest.approx(card.size - experts * 6 / 8 - table, rel=0.02)
