"""A small valid GGUF of an embedding model: an encoder of BERT's shape, random weights, a WordPiece vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.kit.tinygguf import ARRAY, BOOL, F32, I32, STRING, U32, Floats, Gguf, Raw, Value

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jump",
    "over",
    "lazy",
    "dog",
    "hello",
    "world",
    "cat",
    "sat",
    "on",
    "mat",
    "a",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
MEAN, FIRST, RANK = 1, 2, 4
"""``{arch}.pooling_type``: the mean of all tokens, the first token's, or the score that a head makes of the latter."""
CONTEXT = 128


def bert_vocabulary() -> list[str]:
    """WordPiece as GGUF has it: ``▁`` before what begins a word, nothing before what goes on with one."""
    return [
        *SPECIAL,
        *(f"▁{word}" for word in WORDS),
        *(f"▁{letter}" for letter in LETTERS),
        *LETTERS,
        "s",
        "ing",
        "ed",
    ]


def tiny_bert(
    *, embd: int = 48, heads: int = 3, layers: int = 2, pooling: int | None = MEAN, seed: int = 7, head: bool = True
) -> Gguf:
    """An encoder of this shape, not yet written; ``pooling`` ``None`` leaves the file silent about it.

    One that ranks has the same weights and a ``head`` beside them.
    """
    tokens = list(dict.fromkeys(bert_vocabulary()))
    metadata: dict[str, Value | Raw] = {
        "general.architecture": Value(STRING, "bert"),
        "general.type": Value(STRING, "model"),
        "general.name": Value(STRING, "tiny bert"),
        "general.file_type": Value(U32, 0),
        "bert.block_count": Value(U32, layers),
        "bert.context_length": Value(U32, CONTEXT),
        "bert.embedding_length": Value(U32, embd),
        "bert.feed_forward_length": Value(U32, 2 * embd),
        "bert.attention.head_count": Value(U32, heads),
        "bert.attention.layer_norm_epsilon": Value(F32, 1e-12),
        "bert.attention.causal": Value(BOOL, False),
        "tokenizer.ggml.model": Value(STRING, "bert"),
        "tokenizer.ggml.pre": Value(STRING, "default"),
        "tokenizer.ggml.tokens": Value(ARRAY, tokens, STRING),
        "tokenizer.ggml.token_type": Value(ARRAY, [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)), I32),
        "tokenizer.ggml.token_type_count": Value(U32, 2),
        "tokenizer.ggml.bos_token_id": Value(U32, CLS),
        "tokenizer.ggml.eos_token_id": Value(U32, SEP),
        "tokenizer.ggml.unknown_token_id": Value(U32, UNK),
        "tokenizer.ggml.seperator_token_id": Value(U32, SEP),
        "tokenizer.ggml.padding_token_id": Value(U32, PAD),
        "tokenizer.ggml.cls_token_id": Value(U32, CLS),
        "tokenizer.ggml.mask_token_id": Value(U32, MASK),
    }
    if pooling is not None:
        metadata["bert.pooling_type"] = Value(U32, pooling)
    rng = np.random.default_rng(seed)
    tensors = _tensors(rng, len(tokens), embd, layers)
    return Gguf(metadata, tensors | _head(rng, embd) if pooling == RANK and head else tensors)


def _head(rng: np.random.Generator, embd: int) -> dict[str, Floats]:
    shapes = {"cls.weight": (embd, embd), "cls.bias": (embd,), "cls.output.weight": (1, embd), "cls.output.bias": (1,)}
    return {name: (rng.standard_normal(shape) / np.sqrt(embd)).astype(np.float32) for name, shape in shapes.items()}


def _tensors(rng: np.random.Generator, vocab: int, embd: int, layers: int) -> dict[str, Floats]:
    def matrix(rows: int, columns: int) -> Floats:
        made: Floats = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return made

    def norm(name: str) -> dict[str, Floats]:
        return {f"{name}.weight": np.ones(embd, dtype=np.float32), f"{name}.bias": 0.1 * matrix(1, embd)[0]}

    def linear(name: str, rows: int, columns: int) -> dict[str, Floats]:
        return {f"{name}.weight": matrix(rows, columns), f"{name}.bias": 0.1 * matrix(1, rows)[0]}

    tensors = {
        "token_embd.weight": matrix(vocab, embd),
        "token_types.weight": matrix(2, embd),
        "position_embd.weight": matrix(CONTEXT, embd),
        **norm("token_embd_norm"),
    }
    for layer in (f"blk.{number}." for number in range(layers)):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors |= linear(layer + name, embd, embd)
        tensors |= linear(layer + "ffn_up", 2 * embd, embd) | linear(layer + "ffn_down", embd, 2 * embd)
        tensors |= norm(layer + "attn_output_norm") | norm(layer + "layer_output_norm")
    return tensors


def write_tiny_bert(path: Path, *, pooling: int | None = MEAN, head: bool = True) -> Path:
    """Write :func:`tiny_bert` to ``path``; gives ``path`` back."""
    path.write_bytes(tiny_bert(pooling=pooling, head=head).encode())
    return path
