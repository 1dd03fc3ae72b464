"""Small random models whose memory cannot be cut: a running state, a state beside attention, a sliding window.

Shapes and tensor names are those llama.cpp reads for Mamba (Gu and Dao 2023), LFM2 (short convolutions and attention)
and Gemma 3 (five layers of a window to one of everything; here one to one).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.kit.tinygguf import ARRAY, I32, Floats, Gguf, Value, tiny_metadata, vocabulary

EMBD, FFN, HEADS, KV_HEADS = 64, 128, 4, 2
HEAD = EMBD // HEADS
VOCAB = 280
WINDOW = 32
"""Tokens that the windowed layers look back at."""
KINDS = ("recurrent", "hybrid", "window")


def write_odd_gguf(kind: str, path: Path) -> Path:
    """Write a model of one of :data:`KINDS`; gives ``path`` back."""
    made = {"recurrent": _mamba, "hybrid": _lfm2, "window": _gemma3}[kind]()
    path.write_bytes(made.encode())
    return path


class _Weights:
    """Random matrices under names; the output is such that a greedy answer is readable and does not end by itself."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        tokens, _ = vocabulary(VOCAB)
        printable = np.array([token.lstrip("Ġ").isascii() and not token.startswith("<|") for token in tokens])
        output = 2 * self._random(VOCAB, EMBD) * printable[:, None]
        self.tensors: dict[str, Floats] = {
            "token_embd.weight": self._random(VOCAB, EMBD),
            "output.weight": output.astype(np.float32),
        }

    def matrix(self, name: str, rows: int, columns: int) -> None:
        self.tensors[name] = self._random(rows, columns)

    def ones(self, name: str, size: int = EMBD) -> None:
        self.tensors[name] = np.ones(size, dtype=np.float32)

    def attention(self, layer: str) -> None:
        for name, rows in (("q", EMBD), ("k", HEAD * KV_HEADS), ("v", HEAD * KV_HEADS), ("output", EMBD)):
            self.matrix(f"{layer}attn_{name}.weight", rows, EMBD)
        for name in ("q", "k"):
            self.ones(f"{layer}attn_{name}_norm.weight", HEAD)

    def feed_forward(self, layer: str) -> None:
        self.ones(layer + "ffn_norm.weight")
        for name in ("gate", "up"):
            self.matrix(f"{layer}ffn_{name}.weight", FFN, EMBD)
        self.matrix(layer + "ffn_down.weight", EMBD, FFN)

    def _random(self, rows: int, columns: int) -> Floats:
        made: Floats = (self._rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return made


def _shape(layers: int, **more: int) -> dict[str, int]:
    return {"block_count": layers, "context_length": 2048, "embedding_length": EMBD, "feed_forward_length": FFN} | more


def _mamba() -> Gguf:
    inner, state, rank, kernel = 2 * EMBD, 16, 4, 4
    shape = _shape(2) | {
        "ssm.conv_kernel": kernel, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": rank,
        "attention.head_count": 0,
    }  # fmt: skip
    weights = _Weights()
    weights.ones("output_norm.weight")
    for layer in ("blk.0.", "blk.1."):
        weights.ones(layer + "attn_norm.weight")
        weights.matrix(layer + "ssm_in.weight", 2 * inner, EMBD)
        weights.matrix(layer + "ssm_conv1d.weight", inner, kernel)
        weights.ones(layer + "ssm_conv1d.bias", inner)
        weights.matrix(layer + "ssm_x.weight", rank + 2 * state, inner)
        weights.matrix(layer + "ssm_dt.weight", inner, rank)
        weights.ones(layer + "ssm_dt.bias", inner)
        decay = -np.tile(np.arange(1, state + 1, dtype=np.float32) / state, (inner, 1))
        weights.tensors[layer + "ssm_a"] = decay.astype(np.float32)
        weights.ones(layer + "ssm_d", inner)
        weights.matrix(layer + "ssm_out.weight", EMBD, inner)
    return Gguf(tiny_metadata(shape, VOCAB, "mamba", None, arch="mamba"), weights.tensors)


def _lfm2() -> Gguf:
    kernel = 3
    shape = _shape(2) | {"attention.head_count": HEADS, "shortconv.l_cache": kernel, "rope.dimension_count": HEAD}
    weights = _Weights()
    weights.ones("token_embd_norm.weight")
    for layer in ("blk.0.", "blk.1."):
        weights.ones(layer + "attn_norm.weight")
        weights.feed_forward(layer)
    weights.matrix("blk.0.shortconv.conv.weight", EMBD, kernel)
    weights.matrix("blk.0.shortconv.in_proj.weight", 3 * EMBD, EMBD)
    weights.matrix("blk.0.shortconv.out_proj.weight", EMBD, EMBD)
    weights.attention("blk.1.")
    metadata = tiny_metadata(shape, VOCAB, "lfm2", None, arch="lfm2")
    metadata["lfm2.attention.head_count_kv"] = Value(ARRAY, [0, KV_HEADS], I32)
    return Gguf(metadata, weights.tensors)


def _gemma3() -> Gguf:
    shape = _shape(2) | {
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD,
        "attention.value_length": HEAD, "attention.sliding_window": WINDOW, "attention.sliding_window_pattern": 2,
    }  # fmt: skip
    weights = _Weights()
    weights.ones("output_norm.weight")
    for layer in ("blk.0.", "blk.1."):
        weights.ones(layer + "attn_norm.weight")
        weights.attention(layer)
        weights.ones(layer + "post_attention_norm.weight")
        weights.feed_forward(layer)
        weights.ones(layer + "post_ffw_norm.weight")
    return Gguf(tiny_metadata(shape, VOCAB, "gemma3", None, arch="gemma3"), weights.tensors)
