"""Models that are sound as files and absurd in what they say: numbers that overflow, weights that are none, bad tokens.

llama.cpp may refuse such a file, end its process over it, or load it. Whatever it does, it does in a worker.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.kit.tinygguf import ARRAY, F32, STRING, U32, Gguf, Raw, TensorInfo, Value, text, tiny_gguf, vocabulary

MOST = (1 << 32) - 1
NUMBERS: dict[str, tuple[int, ...]] = {
    "context_length": (0, 1, MOST),
    "embedding_length": (0, 65, 1 << 31, MOST),
    "feed_forward_length": (0, MOST),
    "attention.head_count": (3, 1 << 31),
    "attention.head_count_kv": (0, 3, MOST),
    "attention.key_length": (0, 1, MOST),
    "attention.sliding_window": (0, MOST),
    "rope.dimension_count": (1, 3, MOST),
    "expert_count": (MOST,),
    "expert_used_count": (MOST,),
    "vocab_size": (0, MOST),
}
"""Keys of the architecture, and what they are made to say, one at a time."""
FLOATS: dict[str, tuple[float, ...]] = {
    "attention.layer_norm_rms_epsilon": (0.0, -1.0, float("nan")),
    "rope.freq_base": (0.0, -1.0, float("nan"), float("inf")),
}
TOKENS = ("bos", "eos", "unknown", "padding")
"""Special tokens, each made to name a token that does not exist."""


def poisoned_ggufs(folder: Path) -> dict[str, Path]:
    """Write one file per way of being absurd into ``folder``; by name."""
    made = _numbers() | _tokens() | _weights()
    paths = {name: folder / f"{name}.gguf" for name in made}
    for name, path in paths.items():
        path.write_bytes(made[name].encode())
    return paths


def _changed(change: Callable[[Gguf], object]) -> Gguf:
    made = tiny_gguf()
    change(made)
    return made


def _with(key: str, value: Value | Raw) -> Gguf:
    return _changed(lambda made: made.metadata.update({key: value}))


def _numbers() -> dict[str, Gguf]:
    whole = {f"{key}-{n}": _with(f"llama.{key}", Value(U32, n)) for key, numbers in NUMBERS.items() for n in numbers}
    real = {f"{key}-{x}": _with(f"llama.{key}", Value(F32, x)) for key, numbers in FLOATS.items() for x in numbers}
    return whole | real


def _tokens() -> dict[str, Gguf]:
    names, _ = vocabulary(280)
    tokens = "tokenizer.ggml.tokens"
    strings = struct.pack("<IQ", STRING, len(names))
    made = {f"{name}-token": _with(f"tokenizer.ggml.{name}_token_id", Value(U32, MOST)) for name in TOKENS}
    return made | {
        "long-token": _with(tokens, Raw(ARRAY, strings + b"".join(map(text, [*names[:-1], "x" * (1 << 20)])))),
        "same-tokens": _with(tokens, Value(ARRAY, ["same"] * len(names), STRING)),
        "empty-tokens": _with(tokens, Value(ARRAY, [""] * len(names), STRING)),
        "bytes-for-tokens": _with(tokens, Raw(ARRAY, strings + (struct.pack("<Q", 2) + b"\xff\xfe") * len(names))),
        "foreign-merges": _with("tokenizer.ggml.merges", Value(ARRAY, ["no such", "nospace", "", " "], STRING)),
        "many-keys": _changed(lambda made: made.metadata.update({f"x.{n}": Value(U32, n) for n in range(20_000)})),
        "long-string": _with("general.description", Value(STRING, "x" * (1 << 24))),
        "endless-template": _with("tokenizer.chat_template", Value(STRING, "{% for _ in range(10**9) %}x{% endfor %}")),
    }


def _weights() -> dict[str, Gguf]:
    def fill(number: float) -> Callable[[Gguf], None]:
        def change(made: Gguf) -> None:
            for name, tensor in made.tensors.items():
                made.tensors[name] = np.full_like(tensor, number)

        return change

    names = list(tiny_gguf().tensors)
    shared = TensorInfo(names[1], tuple(reversed(tiny_gguf().tensors[names[1]].shape)), 0, 0)
    return {
        "weights-nan": _changed(fill(float("nan"))),
        "weights-inf": _changed(fill(float("inf"))),
        "weights-huge": _changed(fill(3e38)),
        "tensors-overlap": _changed(lambda made: made.infos.update({names[1]: shared})),
    }
