"""Whether a model fits is judged as an owner would: what goes where, how much context, in one plain sentence."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ModelCard, ModelId
from meshnode.models.fit import GIB, Memory, fit, gigabytes

QWEN_8B = ModelCard(
    id=ModelId("qwen3-8b:q4_k_m"), path="", size=5_030_000_000, modified_ns=0, sha256="", architecture="qwen3",
    quantisation="q4_k_m", context_length=40960, layers=36, embedding_length=4096, kv_bytes_per_token=147_456,
    vocab_size=151_936,
)  # fmt: skip
SMOLLM2 = ModelCard(
    id=ModelId("smollm2-135m-instruct:q4_1"), path="", size=98_362_432, modified_ns=0, sha256="", architecture="llama",
    quantisation="q4_1", context_length=8192, layers=30, embedding_length=576, kv_bytes_per_token=23_040,
    vocab_size=49_152,
)  # fmt: skip


def test_a_small_model_runs_on_a_small_machine() -> None:
    judged = fit(SMOLLM2, Memory(ram_free=2 * GIB))
    assert (judged.placement, judged.context, judged.largest_context) == ("cpu", 8192, 8192)
    assert judged.cache == 8192 * 23_040
    assert judged.sentence.startswith("smollm2-135m-instruct:q4_1 runs on the CPU: about ")


def test_a_big_gpu_takes_all_layers() -> None:
    judged = fit(QWEN_8B, Memory(ram_free=32 * GIB, gpu_free=24 * GIB), n_ctx=8192)
    assert (judged.placement, judged.gpu_layers, judged.layers) == ("gpu", 37, 37)
    assert "on the GPU whole" in judged.sentence


def test_a_small_gpu_takes_some_layers() -> None:
    judged = fit(QWEN_8B, Memory(ram_free=32 * GIB, gpu_free=4 * GIB), n_ctx=8192)
    assert judged.placement == "split"
    assert 0 < judged.gpu_layers < 37
    assert f"{judged.gpu_layers} of 37 layers on the GPU" in judged.sentence


def test_a_gpu_too_small_for_its_buffers_is_left_alone() -> None:
    judged = fit(QWEN_8B, Memory(ram_free=32 * GIB, gpu_free=GIB // 2), n_ctx=8192)
    assert (judged.placement, judged.gpu_layers) == ("cpu", 0)


def test_less_context_may_fit() -> None:
    judged = fit(QWEN_8B, Memory(ram_free=8 * GIB), n_ctx=32768)
    assert not judged.fits
    assert 512 <= judged.largest_context < 32768
    assert f"with {judged.largest_context:,} it would" in judged.sentence
    assert fit(QWEN_8B, Memory(ram_free=8 * GIB), n_ctx=judged.largest_context).fits


def test_too_big_is_too_big() -> None:
    judged = fit(QWEN_8B, Memory(ram_free=2 * GIB))
    assert (judged.fits, judged.largest_context) == (False, 0)
    assert "does not fit" in judged.sentence


def test_shared_memory_is_counted_once() -> None:
    memory = Memory(ram_free=6 * GIB, gpu_free=6 * GIB, shared=True)
    assert not fit(QWEN_8B, memory, n_ctx=16384).fits
    assert fit(QWEN_8B, Memory(ram_free=6 * GIB, gpu_free=6 * GIB), n_ctx=16384).placement == "split"


@given(st.integers(0, 64 * GIB), st.integers(0, 64 * GIB), st.integers(512, 40960))
def test_more_memory_never_makes_it_worse(ram: int, gpu: int, n_ctx: int) -> None:
    small = fit(QWEN_8B, Memory(ram_free=ram, gpu_free=gpu), n_ctx=n_ctx)
    large = fit(QWEN_8B, Memory(ram_free=ram + GIB, gpu_free=gpu + GIB), n_ctx=n_ctx)
    assert large.fits >= small.fits
    if small.placement == large.placement:
        assert large.gpu_layers >= small.gpu_layers
        assert large.largest_context >= small.largest_context


@given(st.integers(0, 64 * GIB), st.integers(0, 64 * GIB))
def test_the_largest_context_does_fit(ram: int, gpu: int) -> None:
    memory = Memory(ram_free=ram, gpu_free=gpu)
    largest = fit(QWEN_8B, memory, n_ctx=8192).largest_context
    assert largest == 0 or fit(QWEN_8B, memory, n_ctx=largest).fits


def test_a_card_without_figures_is_still_judged() -> None:
    bare = msgspec.structs.replace(QWEN_8B, layers=0, kv_bytes_per_token=0, vocab_size=0, context_length=0)
    assert fit(bare, Memory(ram_free=32 * GIB)).fits


@pytest.mark.parametrize(("count", "shown"), [(98_362_432, "98 MB"), (5_030_000_000, "5.0 GB")])
def test_sizes_are_for_people(count: int, shown: str) -> None:
    assert gigabytes(count) == shown
