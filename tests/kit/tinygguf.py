"""Small valid GGUF files with random weights, made on the spot: a real tokenizer, two layers, half a megabyte.

The format is written out here (ggml's ``docs/gguf.md``, version 3), because the hostile files of
:func:`hostile_ggufs` are made by bending single fields of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (
    "t h", "h e", "i n", "e r", "a n", "Ġ t", "Ġt he", "Ġ a",
    "o n", "r e", "o u", "e n", "th e", "in g", "l l", "Ġ i",
)  # fmt: skip
ALIGNMENT = 32

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
_SCALARS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
Floats = NDArray[np.float32]


class Value(NamedTuple):
    """A metadata value: its GGUF type number, and for arrays that of the items."""

    kind: int
    value: object
    items: int = 0

    def encode(self) -> bytes:
        """Type number and value as they stand in a file."""
        return struct.pack("<I", self.kind) + self._body()

    def _body(self) -> bytes:
        if self.kind == STRING:
            return text(str(self.value))
        if self.kind == ARRAY:
            assert isinstance(self.value, list)
            body = b"".join(Value(self.items, item)._body() for item in self.value)
            return struct.pack("<IQ", self.items, len(self.value)) + body
        return struct.pack(_SCALARS[self.kind], self.value)


class Raw(NamedTuple):
    """A metadata value whose bytes are given as they are."""

    kind: int
    body: bytes

    def encode(self) -> bytes:
        """Type number and value as they stand in a file."""
        return struct.pack("<I", self.kind) + self.body


class TensorInfo(NamedTuple):
    """A tensor's entry in the header; ``dims`` in ggml's order, innermost first."""

    name: str
    dims: tuple[int, ...]
    kind: int
    offset: int

    def encode(self) -> bytes:
        """The entry as it stands in a file."""
        dims = struct.pack(f"<I{len(self.dims)}Q", len(self.dims), *self.dims)
        return text(self.name) + dims + struct.pack("<IQ", self.kind, self.offset)


@dataclass
class Gguf:
    """A file before it is written; hostile variants change one field. Counts of ``None`` are the true ones."""

    metadata: dict[str, Value | Raw]
    tensors: dict[str, Floats]
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    metadata_count: int | None = None
    infos: dict[str, TensorInfo] = field(default_factory=dict)
    """Entries that take the place of the true ones."""

    def head(self) -> bytes:
        """Everything up to the padding before the tensors' data."""
        counts = (
            len(self.tensors) if self.tensor_count is None else self.tensor_count,
            len(self.metadata) if self.metadata_count is None else self.metadata_count,
        )
        pairs = b"".join(text(key) + value.encode() for key, value in self.metadata.items())
        infos = b"".join(self.infos.get(info.name, info).encode() for info in self._true_infos())
        return self.magic + struct.pack("<IQQ", self.version, *counts) + pairs + infos

    def encode(self) -> bytes:
        """The whole file."""
        data = b"".join(_padded(tensor.tobytes()) for tensor in self.tensors.values())
        return _padded(self.head()) + data

    def _true_infos(self) -> list[TensorInfo]:
        infos, offset = [], 0
        for name, tensor in self.tensors.items():
            infos.append(TensorInfo(name, tuple(reversed(tensor.shape)), 0, offset))
            offset += len(_padded(tensor.tobytes()))
        return infos


def text(value: str) -> bytes:
    """A GGUF string: 64-bit length and UTF-8."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def byte_letters() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes (byte-level BPE's alphabet), by byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def vocabulary(size: int) -> tuple[list[str], list[int]]:
    """Tokens and their types: control, 256 bytes, merges, and unused ones up to ``size``."""
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*CONTROL, *byte_letters(), *dict.fromkeys(merged)]
    unused = [f"<|unused_{n}|>" for n in range(size - len(tokens))]
    return tokens + unused, [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)) + [5] * len(unused)


def tiny_metadata(
    shape: Mapping[str, int], vocab: int, name: str, template: str | None, *, arch: str = "llama"
) -> dict[str, Value | Raw]:
    """A model's metadata: ``shape`` are the integers under its architecture's name."""
    tokens, types = vocabulary(vocab)
    metadata: dict[str, Value | Raw] = {
        "general.architecture": Value(STRING, arch),
        "general.type": Value(STRING, "model"),
        "general.name": Value(STRING, name),
        "general.file_type": Value(U32, 0),
        **{f"{arch}.{key}": Value(U32, value) for key, value in shape.items()},
        f"{arch}.vocab_size": Value(U32, len(tokens)),
        f"{arch}.attention.layer_norm_rms_epsilon": Value(F32, 1e-5),
        f"{arch}.rope.freq_base": Value(F32, 10000.0),
        "tokenizer.ggml.model": Value(STRING, "gpt2"),
        "tokenizer.ggml.pre": Value(STRING, "gpt-2"),
        "tokenizer.ggml.tokens": Value(ARRAY, tokens, STRING),
        "tokenizer.ggml.token_type": Value(ARRAY, types, I32),
        "tokenizer.ggml.merges": Value(ARRAY, list(MERGES), STRING),
        "tokenizer.ggml.bos_token_id": Value(U32, 1),
        "tokenizer.ggml.eos_token_id": Value(U32, 2),
        "tokenizer.ggml.add_bos_token": Value(BOOL, False),
        "tokenizer.ggml.add_space_prefix": Value(BOOL, False),
    }
    return metadata if template is None else metadata | {"tokenizer.chat_template": Value(STRING, template)}


def _tensors(seed: int, layers: int, embd: int, ffn: int, kv: int, tokens: list[str]) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Floats:
        made: Floats = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return made

    ones = np.ones(embd, dtype=np.float32)
    printable = np.array([token.lstrip("Ġ").isascii() and not token.startswith("<|") for token in tokens])
    output = 2 * matrix(len(tokens), embd) * printable[:, None]
    tensors = {
        "token_embd.weight": matrix(len(tokens), embd),
        "output_norm.weight": ones,
        "output.weight": output.astype(np.float32),
    }
    for layer in (f"blk.{number}." for number in range(layers)):
        tensors |= {
            layer + "attn_norm.weight": ones,
            layer + "attn_q.weight": matrix(embd, embd),
            layer + "attn_k.weight": matrix(kv, embd),
            layer + "attn_v.weight": matrix(kv, embd),
            layer + "attn_output.weight": matrix(embd, embd),
            layer + "ffn_norm.weight": ones,
            layer + "ffn_gate.weight": matrix(ffn, embd),
            layer + "ffn_up.weight": matrix(ffn, embd),
            layer + "ffn_down.weight": matrix(embd, ffn),
        }
    return tensors


def tiny_gguf(
    *,
    layers: int = 2,
    embd: int = 64,
    ffn: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    ctx: int = 2048,
    vocab: int = 280,
    seed: int = 1,
    template: str | None = CHATML,
    name: str = "tiny",
) -> Gguf:
    """A llama of this shape with random weights (``seed``), not yet written.

    Its words are ASCII: the output rows of control tokens and of halves of characters are zero, so that an answer
    is readable and, taken greedily, never ends by itself.
    """
    shape = {
        "block_count": layers,
        "context_length": ctx,
        "embedding_length": embd,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "rope.dimension_count": embd // heads,
    }
    metadata = tiny_metadata(shape, vocab, name, template)
    tokens, _ = vocabulary(vocab)
    kv = embd // heads * kv_heads
    return Gguf(metadata, _tensors(seed, layers, embd, ffn, kv, tokens))


def write_tiny_gguf(
    path: Path,
    *,
    layers: int = 2,
    embd: int = 64,
    ffn: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    ctx: int = 2048,
    vocab: int = 280,
    seed: int = 1,
    template: str | None = CHATML,
    name: str = "tiny",
) -> Path:
    """Write :func:`tiny_gguf` to ``path``; gives ``path`` back."""
    made = tiny_gguf(
        layers=layers, embd=embd, ffn=ffn, heads=heads, kv_heads=kv_heads, ctx=ctx, vocab=vocab, seed=seed,
        template=template, name=name,
    )  # fmt: skip
    path.write_bytes(made.encode())
    return path


# --- hostile files ----------------------------------------------------------------------------

HUGE = 1 << 62
ABORTING = frozenset({"absurd_layers"})
"""Of the hostile files: those at which llama.cpp ends the process."""
BROKEN_MODELS = frozenset({
    "missing_tensor", "wrong_shape", "unknown_architecture", "unknown_tokenizer", "no_tokens", "missing_tokenizer",
    "wrong_key_type", "absurd_layers", "zero_heads", "fewer_types_than_tokens", "tokens_of_another_kind",
})  # fmt: skip
"""Of the hostile files: those that are sound as containers, so that only llama.cpp finds out."""


def hostile_ggufs(folder: Path) -> dict[str, Path]:
    """Write one file per way of being wrong into ``folder``; by name. llama.cpp loads none of them."""
    contents = _broken_containers() | {name: file.encode() for name, file in _broken_models().items()}
    paths = {name: folder / f"{name}.gguf" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def _broken_containers() -> dict[str, bytes]:
    whole = tiny_gguf().encode()
    head = len(tiny_gguf().head())
    cut = {
        "empty": b"",
        "text": b"<!DOCTYPE html><title>404</title>" * 50,
        "magic_alone": whole[:4],
        "truncated_counts": whole[:12],
        "truncated_metadata": whole[: head // 2],
        "truncated_tensor_infos": whole[: head - 40],
        "truncated_data": whole[: len(whole) // 2],
        "other_byte_order": b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + whole[24:],
    }
    lying = _lying_headers() | _lying_values() | _lying_tensors()
    return cut | {name: file.encode() for name, file in lying.items()}


def _lying_headers() -> dict[str, Gguf]:
    made = {name: tiny_gguf() for name in ("magic", "version", "tensor_count", "metadata_count", "negative_count")}
    made["magic"].magic = b"GGML"
    made["version"].version = 77
    made["tensor_count"].tensor_count = HUGE
    made["metadata_count"].metadata_count = HUGE
    made["negative_count"].tensor_count = (1 << 64) - 1
    return {f"lying_{name}": file for name, file in made.items()}


def _lying_values() -> dict[str, Gguf]:
    nested = struct.pack("<IQ", ARRAY, 1) * 20_000 + struct.pack("<IQ", U32, 0)
    values: dict[str, Value | Raw] = {
        "absurd_string_length": Raw(STRING, struct.pack("<Q", HUGE) + b"x"),
        "absurd_array_length": Raw(ARRAY, struct.pack("<IQ", U32, HUGE)),
        "absurd_string_array": Raw(ARRAY, struct.pack("<IQ", STRING, 1 << 40)),
        "nested_arrays": Raw(ARRAY, nested),
        "unknown_value_type": Raw(99, bytes(8)),
        "alignment_of_seven": Value(U32, 7),
        "alignment_of_zero": Value(U32, 0),
    }
    made = {name: tiny_gguf() for name in values}
    for name, value in values.items():
        made[name].metadata["general.alignment" if name.startswith("alignment") else "tiny.bait"] = value
    return made


def _lying_tensors() -> dict[str, Gguf]:
    first = "token_embd.weight"
    infos = {
        "absurd_dimensions": TensorInfo(first, (1 << 40, 1 << 40), 0, 0),
        "too_many_dimensions": TensorInfo(first, (1,) * 1000, 0, 0),
        "zero_dimension": TensorInfo(first, (64, 0), 0, 0),
        "unknown_tensor_type": TensorInfo(first, (64, 280), 999, 0),
        "offset_beyond_the_end": TensorInfo(first, (64, 280), 0, HUGE),
        "crooked_offset": TensorInfo(first, (64, 280), 0, 1),
    }
    made = {name: tiny_gguf() for name in infos}
    for name, info in infos.items():
        made[name].infos[first] = info
    return made


def _broken_models() -> dict[str, Gguf]:
    made = {name: tiny_gguf() for name in sorted(BROKEN_MODELS)}
    del made["missing_tensor"].tensors["blk.1.ffn_up.weight"]
    made["wrong_shape"].tensors["blk.0.attn_q.weight"] = np.zeros((32, 32), dtype=np.float32)
    made["unknown_architecture"].metadata["general.architecture"] = Value(STRING, "nonesuch")
    made["unknown_tokenizer"].metadata["tokenizer.ggml.model"] = Value(STRING, "nonesuch")
    made["no_tokens"].metadata["tokenizer.ggml.tokens"] = Value(ARRAY, [], STRING)
    del made["missing_tokenizer"].metadata["tokenizer.ggml.tokens"]
    made["wrong_key_type"].metadata["llama.context_length"] = Value(STRING, "many")
    made["absurd_layers"].metadata["llama.block_count"] = Value(U32, 4_000_000_000)
    made["zero_heads"].metadata["llama.attention.head_count"] = Value(U32, 0)
    made["fewer_types_than_tokens"].metadata["tokenizer.ggml.token_type"] = Value(ARRAY, [1, 1, 1], I32)
    made["tokens_of_another_kind"].metadata["tokenizer.ggml.tokens"] = Value(ARRAY, [1] * 280, I32)
    return made
