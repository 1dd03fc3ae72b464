"""The pre-parser takes sound files, refuses hostile ones by name, and never does anything else."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import ModelFileRefused
from meshnode.models import gguf_layout
from meshnode.models.gguf import read_metadata
from meshnode.models.gguf_layout import Array, GgufFile, read_gguf
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import (
    ARRAY,
    BROKEN_MODELS,
    STRING,
    U32,
    U64,
    Raw,
    TensorInfo,
    Value,
    hostile_ggufs,
    text,
    tiny_gguf,
)

FUZZ_CASES = 3000


def parse(data: bytes) -> GgufFile:
    """Read a file given as bytes."""
    return read_gguf(io.BytesIO(data), len(data))


def file_of(pairs: bytes = b"", n_pairs: int = 0, tensors: bytes = b"", n_tensors: int = 0, data: bytes = b"") -> bytes:
    """A GGUF of given parts; the data begins at the next multiple of 32."""
    head = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_pairs) + pairs + tensors
    return head + bytes(-len(head) % 32) + data


def test_a_sound_file_is_read_whole(tiny: bytes) -> None:
    file = parse(tiny)
    assert file.version == 3
    assert file.pairs["general.architecture"] == "llama"
    tokens = file.pairs["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert tokens.length == 280
    first = file.tensors[0]
    assert (first.name, first.shape, first.type.name, first.offset) == ("token_embd.weight", (64, 280), "f32", 0)
    assert file.data_offset + sum(tensor.size for tensor in file.tensors) <= len(tiny)


def test_hostile_files_are_refused_with_what_and_what_to_do(tmp_path: Path) -> None:
    for name, path in hostile_ggufs(tmp_path).items():
        if name in BROKEN_MODELS:
            continue
        with path.open("rb") as file, pytest.raises(ModelFileRefused) as caught:
            read_gguf(file, path.stat().st_size)
        assert caught.value.message, name
        assert caught.value.hint, name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the magic would end at byte 4"),
        (b"PK\x03\x04" + bytes(40), "it begins with"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0), "claims 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40), "metadata pairs"),
        (file_of(text("") + struct.pack("<II", U32, 1), 1), "empty key"),
        (file_of(struct.pack("<Q", 1 << 60), 1), "a key claims 1152921504606846976 bytes"),
        (file_of(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<II", U32, 1), 1), "not UTF-8"),
        (file_of((text("k") + struct.pack("<II", U32, 1)) * 2, 2), "the key 'k' twice"),
        (file_of(text("k") + struct.pack("<I", 99), 1), "unknown type 99"),
        (file_of(text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1), 1), "array of arrays"),
        (file_of(text("k") + struct.pack("<IIQ", ARRAY, 99, 1), 1), "items of the unknown type 99"),
        (file_of(text("k") + struct.pack("<IIQ", ARRAY, U32, 1 << 62), 1), "but the file has"),
        (file_of(text("k") + struct.pack("<IIQ", ARRAY, STRING, (1 << 64) - 1), 1), "but the file has"),
        (file_of(text("k") + struct.pack("<IIQQ", ARRAY, STRING, 1, 1 << 62) + bytes(64), 1), "a string of"),
        (file_of(text("k") + struct.pack("<IQ", STRING, 1 << 62), 1), "claims"),
        (file_of(text("general.alignment") + struct.pack("<II", U32, 48), 1), "an alignment of 48"),
        (file_of(text("general.alignment") + struct.pack("<II", U32, 1 << 21), 1), "an alignment of 2097152"),
        (file_of(text("general.alignment") + struct.pack("<IQ", U64, 1 << 63), 1), "an alignment of"),
        (file_of(text("general.alignment") + struct.pack("<I", STRING) + text("32"), 1), "not a whole number"),
    ],
)
def test_each_refusal_names_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ModelFileRefused, match=reason):
        parse(data)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (TensorInfo("t" * 64, (32,), 0, 0), "a tensor's name claims 64 bytes"),
        (TensorInfo("t", (1, 1, 1, 1, 1), 0, 0), "5 dimensions"),
        (TensorInfo("t", (32, 0), 0, 0), "a dimension of 0"),
        (TensorInfo("t", (1 << 63,), 0, 0), "a dimension of 9223372036854775808"),
        (TensorInfo("t", (1 << 32, 1 << 32), 0, 0), "more than 64 bits hold"),
        (TensorInfo("t", (1 << 62,), 28, 0), "would take"),
        (TensorInfo("t", (32,), 4, 0), "unknown type 4"),
        (TensorInfo("t", (33,), 2, 0), "not a multiple of q4_0's block of 32"),
        (TensorInfo("t", (32,), 0, 8), "not a multiple of the alignment"),
        (TensorInfo("t", (32,), 0, 32), "where 0 was due"),
        (TensorInfo("t", (32,), 0, (1 << 64) - 32), "where 0 was due"),
        (TensorInfo("t", (1 << 30,), 0, 0), "cut short"),
        (TensorInfo("t\0u", (32,), 0, 0), "NUL"),
    ],
)
def test_each_bad_tensor_is_named(info: TensorInfo, reason: str) -> None:
    with pytest.raises(ModelFileRefused, match=reason):
        parse(file_of(tensors=info.encode(), n_tensors=1, data=bytes(128)))


def test_a_tensor_twice_is_refused() -> None:
    tensors = TensorInfo("t", (32,), 0, 0).encode() + TensorInfo("t", (32,), 0, 128).encode()
    with pytest.raises(ModelFileRefused, match="tensor 't' twice"):
        parse(file_of(tensors=tensors, n_tensors=2, data=bytes(256)))


def test_sums_of_sizes_do_not_wrap() -> None:
    """Two tensors whose sizes add up to nothing in 64 bits (CVE-2025-53630)."""
    half = TensorInfo("a", (1 << 61,), 0, 0).encode() + TensorInfo("b", (1 << 61,), 0, 1 << 63).encode()
    with pytest.raises(ModelFileRefused):
        parse(file_of(tensors=half, n_tensors=2, data=bytes(256)))


def test_a_file_shorter_than_it_says_is_refused(tiny: bytes) -> None:
    with pytest.raises(ModelFileRefused, match="the file ends at byte 100"):
        read_gguf(io.BytesIO(tiny[:100]), len(tiny))


def test_more_metadata_than_is_sane_is_refused(monkeypatch: pytest.MonkeyPatch, tiny: bytes) -> None:
    monkeypatch.setattr(gguf_layout, "MAX_METADATA", 4096)
    with pytest.raises(ModelFileRefused, match="more than 4096 bytes of metadata"):
        parse(tiny)


def test_a_big_vocabulary_is_stepped_over_without_objects() -> None:
    made = tiny_gguf()
    token = text("a token of some length")
    made.metadata["tokenizer.ggml.tokens"] = Raw(ARRAY, struct.pack("<IQ", STRING, 150_000) + token * 150_000)
    data = made.encode()
    tracemalloc.start()
    try:
        file = parse(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tokens = file.pairs["tokenizer.ggml.tokens"]
    assert isinstance(tokens, Array)
    assert tokens == (150_000, None)
    assert peak < 3 * len(data)


def test_the_real_model_is_read() -> None:
    path = smollm2_path()
    with path.open("rb") as file:
        read = read_gguf(file, path.stat().st_size)
    assert (len(read.tensors), len(read.pairs)) == (272, 33)


def _bent(data: bytes, head: int, rng: random.Random) -> bytes:
    """``data`` with a few random changes where they hurt: bits, whole numbers, cuts, pieces moved."""
    bent = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(head, len(bent) - 8))
        kind = rng.randrange(5)
        if kind == 0:
            bent[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            nasty = rng.choice([0, 1, 0xFF, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 32])
            bent[at : at + 8] = struct.pack("<Q", nasty)
        elif kind == 2:
            bent[at : at + 4] = struct.pack("<I", rng.choice([0, 4, 8, 9, 99, 1 << 20, 0xFFFFFFFF]))
        elif kind == 3:
            del bent[at : at + rng.randint(1, 64)]
        else:
            bent[at:at] = rng.randbytes(rng.randint(1, 64))
    return bytes(bent[: rng.randrange(9, len(bent))] if rng.random() < 0.2 else bent)


def test_thousands_of_bent_files_raise_nothing_else() -> None:
    """Every change of a sound file is either still sound or refused; nothing else comes out, and nothing hangs."""
    made = tiny_gguf(vocab=272)
    data, head = made.encode(), len(made.head())
    rng = random.Random(20260401)
    refused = longest = 0
    for _ in range(FUZZ_CASES):
        bent = _bent(data, head, rng)
        try:
            read_metadata(io.BytesIO(bent), len(bent))
        except ModelFileRefused as error:
            refused += 1
            longest = max(longest, len(str(error)))
    assert longest < 1000
    assert FUZZ_CASES // 2 < refused < FUZZ_CASES


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_arbitrary_bytes_after_the_magic_raise_nothing_else(tail: bytes) -> None:
    data = b"GGUF" + struct.pack("<I", 3) + tail
    try:
        read_metadata(io.BytesIO(data), len(data))
    except ModelFileRefused as error:
        assert str(error)  # noqa: PT017  either outcome is right; anything else is not


_values = st.one_of(
    st.integers(0, (1 << 32) - 1).map(lambda number: Value(U32, number)),
    st.integers(0, (1 << 64) - 1).map(lambda number: Value(U64, number)),
    st.text(max_size=20).map(lambda string: Value(STRING, string)),
    st.lists(st.text(max_size=8), max_size=8).map(lambda items: Value(ARRAY, items, STRING)),
)


@given(
    st.dictionaries(st.text(min_size=1, max_size=20), _values, max_size=8),
    st.lists(st.integers(1, 40), max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(pairs: dict[str, Value], shape: list[int]) -> None:
    pairs.pop("general.alignment", None)
    encoded = b"".join(text(key) + value.encode() for key, value in pairs.items())
    info = TensorInfo("t", tuple(shape), 0, 0)
    size = 4
    for length in shape:
        size *= length
    file = parse(file_of(encoded, len(pairs), info.encode(), 1, bytes(size)))
    assert file.tensors[0].shape == tuple(shape)
    assert file.tensors[0].size == size
    for key, value in pairs.items():
        if value.kind == ARRAY:
            assert isinstance(value.value, list)
            assert file.pairs[key] == Array(len(value.value), None)
        else:
            assert file.pairs[key] == value.value
