"""A GGUF's bytes before the tensor data, read before llama.cpp sees them: bounded, refusing what trips loaders. Pure.

Layout (little endian; the GGUF specification, and llama.cpp's ``gguf.cpp`` for what a loader insists on)::

    "GGUF"  u32 version  u64 tensors  u64 pairs
    pairs x    string key   u32 type   value          string = u64 length, bytes; array = u32 type, u64 count, items
    tensors x  string name  u32 dims   u64 x dims   u32 type   u64 offset
    padding to the alignment, then tensor data; offsets count from there, each a multiple of the alignment

Refused for what went wrong in loaders before: counts and lengths past the end of the file (CVE-2024-21802), sizes
and offsets whose sums or products leave 64 bits (CVE-2025-53630, its bypass CVE-2026-27940, CVE-2026-33298),
alignments that make padding wrap, more than four dimensions, a dimension of zero, keys or tensors twice.

The big arrays of a tokenizer are stepped over without making Python objects; at most
:data:`MAX_METADATA` bytes are held.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from meshnode.errors import ModelFileRefused
from meshnode.models.quantisation import TENSOR_TYPES, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_METADATA = 64 << 20
"""Bytes before the tensor data. The largest vocabularies in use take about 20 MB; this bounds our memory."""
MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_KEY = (1 << 16) - 1
"""The specification's own bound on a key, in bytes."""
MAX_STRING = 16 << 20
MAX_NAME = 63
"""ggml keeps a tensor's name in 64 bytes with its NUL."""
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32
MAX_KEPT = 4096
"""Numeric arrays up to this long are kept (per-layer values); of longer ones only the count."""

_CHUNK = 1 << 20
_INT64 = (1 << 63) - 1
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9

Scalar = int | float | bool | str


class Array(NamedTuple):
    """An array value: its length, and the elements where there are few numbers."""

    length: int
    values: tuple[int | float | bool, ...] | None


Value = Scalar | Array


class Tensor(NamedTuple):
    """One tensor's description; ``offset`` counts from the start of the tensor data, sizes are in bytes."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int
    elements: int
    size: int


class GgufFile(NamedTuple):
    """All that was read, every bound checked. ``raw`` holds the bytes of string values."""

    version: int
    pairs: dict[str, Value]
    raw: dict[str, bytes]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int


def refuse(message: str, *, at: int | None = None) -> ModelFileRefused:
    """The error for a file that is no sound GGUF; ``at`` is the byte where it shows."""
    where = "" if at is None else f" (at byte {at})"
    return ModelFileRefused(
        f"not a sound GGUF: {message}{where}.", hint="The file is damaged or was made to harm; fetch it again."
    )


def read_gguf(file: BinaryIO, size: int) -> GgufFile:
    """Read everything before the tensor data of a file of ``size`` bytes. Raises ModelFileRefused."""
    cursor = _Cursor(file, size)
    version, n_tensors, n_pairs = _header(cursor)
    pairs: dict[str, Value] = {}
    raw: dict[str, bytes] = {}
    for _ in range(n_pairs):
        _pair(cursor, pairs, raw)
    alignment = _alignment(pairs)
    found = [_tensor(cursor) for _ in range(n_tensors)]
    data_offset = _padded(cursor.position, alignment)
    _check_layout(found, alignment, size, data_offset)
    return GgufFile(version, pairs, raw, tuple(found), alignment, data_offset)


def show(data: bytes | str) -> str:
    """A name from a file as it may stand in a message: printable, short, quoted."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Cursor:
    """A position in the file's first bytes, which are read as they are needed."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._buffer = bytearray()
        self.position = 0

    def need(self, count: int, what: str) -> None:
        """Have ``count`` more bytes in the buffer, or refuse."""
        end = self.position + count
        if end > self._size:
            raise refuse(f"{what} would end at byte {end}, but the file has {self._size}", at=self.position)
        if end > MAX_METADATA:
            raise refuse(f"more than {MAX_METADATA} bytes of metadata", at=self.position)
        while len(self._buffer) < end:
            chunk = self._file.read(max(_CHUNK, end - len(self._buffer)))
            if not chunk:
                raise refuse(f"the file ends at byte {len(self._buffer)} inside {what}", at=self.position)
            self._buffer += chunk

    def skip(self, count: int, what: str) -> None:
        """Step over ``count`` bytes."""
        self.need(count, what)
        self.position += count

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes."""
        start = self.position
        self.skip(count, what)
        return bytes(self._buffer[start : self.position])

    def u32(self, what: str) -> int:
        """The next four bytes as a number."""
        self.skip(4, what)
        return int(_U32.unpack_from(self._buffer, self.position - 4)[0])

    def u64(self, what: str) -> int:
        """The next eight bytes as a number."""
        self.skip(8, what)
        return int(_U64.unpack_from(self._buffer, self.position - 8)[0])

    def string(self, limit: int, what: str) -> bytes:
        """A length and that many bytes; refused over ``limit``."""
        length = self.u64(what)
        if length > limit:
            raise refuse(f"{what} claims {length} bytes; at most {limit} are allowed", at=self.position - 8)
        return self.take(length, what)

    def skip_strings(self, count: int, what: str) -> None:
        """Step over ``count`` strings. One tight loop: a vocabulary has hundreds of thousands."""
        self.need(0, what)
        position, left, length_of = self.position, count, _U64.unpack_from
        while left:
            try:
                while left:
                    (length,) = length_of(self._buffer, position)
                    if length > MAX_STRING:
                        raise refuse(f"a string of {length} bytes in {what}", at=position)
                    position += 8 + length
                    left -= 1
            except struct.error:
                self.position = position
                self.need(8, what)
        self.position = position
        self.need(0, what)


def _header(cursor: _Cursor) -> tuple[int, int, int]:
    magic = cursor.take(4, "the magic")
    if magic != MAGIC:
        raise refuse(f"it begins with {magic!r}, not {MAGIC!r}", at=0)
    version = cursor.u32("the version")
    if version & 0xFFFF == 0 and version:
        raise ModelFileRefused("the GGUF is big endian.", hint="Convert it to little endian, or fetch such a file.")
    if version not in VERSIONS:
        raise refuse(f"version {version}; {' and '.join(map(str, VERSIONS))} can be read", at=4)
    n_tensors, n_pairs = cursor.u64("the tensor count"), cursor.u64("the pair count")
    for count, limit, what in ((n_tensors, MAX_TENSORS, "tensors"), (n_pairs, MAX_PAIRS, "metadata pairs")):
        if count > limit:
            raise refuse(f"it claims {count} {what}; at most {limit} are allowed", at=8)
    return version, n_tensors, n_pairs


def _pair(cursor: _Cursor, pairs: dict[str, Value], raw: dict[str, bytes]) -> None:
    start = cursor.position
    try:
        key = cursor.string(MAX_KEY, "a key").decode("utf-8")
    except UnicodeDecodeError:
        raise refuse("a key is not UTF-8", at=start) from None
    if not key:
        raise refuse("an empty key", at=start)
    if key in pairs:
        raise refuse(f"the key {show(key)} twice", at=start)
    kind = cursor.u32(f"the type of {show(key)}")
    if kind == _STRING:
        raw[key] = cursor.string(MAX_STRING, show(key))
        pairs[key] = raw[key].decode("utf-8", "replace")
    elif kind == _ARRAY:
        pairs[key] = _array(cursor, show(key))
    else:
        pairs[key] = _scalar(cursor, kind, show(key))


def _scalar(cursor: _Cursor, kind: int, what: str) -> Scalar:
    layout = _SCALARS.get(kind)
    if layout is None:
        raise refuse(f"{what} has the unknown type {kind}", at=cursor.position - 4)
    (value,) = struct.unpack(layout, cursor.take(struct.calcsize(layout), what))
    number: int | float = value
    return bool(number) if kind == _BOOL else number


def _array(cursor: _Cursor, what: str) -> Array:
    kind, count = cursor.u32(what), cursor.u64(what)
    if kind == _ARRAY:
        raise refuse(f"{what} is an array of arrays", at=cursor.position - 12)
    if kind == _STRING:
        # Each string takes 8 bytes at least: a lying count is refused before the loop, not after it.
        position = cursor.position
        cursor.skip(count * 8, what)
        cursor.position = position
        cursor.skip_strings(count, what)
        return Array(count, None)
    layout = _SCALARS.get(kind)
    if layout is None:
        raise refuse(f"{what} has items of the unknown type {kind}", at=cursor.position - 12)
    width = struct.calcsize(layout)
    if count > MAX_KEPT:
        cursor.skip(count * width, what)
        return Array(count, None)
    items = struct.unpack(f"<{count}{layout[1]}", cursor.take(count * width, what))
    return Array(count, tuple(map(bool, items)) if kind == _BOOL else items)


def _alignment(pairs: dict[str, Value]) -> int:
    value = pairs.get("general.alignment", DEFAULT_ALIGNMENT)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse("general.alignment is not a whole number")
    if not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise refuse(f"an alignment of {value}; it must be a power of two up to {MAX_ALIGNMENT}")
    return value


def _tensor(cursor: _Cursor) -> Tensor:
    start = cursor.position
    name = cursor.string(MAX_NAME, "a tensor's name")
    what = f"tensor {show(name)}"
    n_dims = cursor.u32(what)
    if n_dims > MAX_DIMS:
        raise refuse(f"{what} has {n_dims} dimensions; at most {MAX_DIMS} are allowed", at=start)
    shape = tuple(cursor.u64(what) for _ in range(n_dims))
    elements = _checked_product(shape, what, start)
    number = cursor.u32(what)
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise refuse(f"{what} has the unknown type {number}", at=start)
    row = shape[0] if shape else 1
    if row % kind.block:
        raise refuse(f"{what} has rows of {row}, not a multiple of {kind.name}'s block of {kind.block}", at=start)
    size = elements // kind.block * kind.size
    if size > _INT64:
        raise refuse(f"{what} would take {size} bytes", at=start)
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse(f"{what} is not named in UTF-8", at=start) from None
    if "\0" in text:
        raise refuse(f"{what} has a NUL in its name", at=start)
    return Tensor(text, shape, kind, cursor.u64(what), elements, size)


def _checked_product(shape: tuple[int, ...], what: str, at: int) -> int:
    product = 1
    for length in shape:
        if not 0 < length <= _INT64:
            raise refuse(f"{what} has a dimension of {length}", at=at)
        product *= length
    if product > _INT64:
        raise refuse(f"{what} has {product} elements, more than 64 bits hold", at=at)
    return product


def _padded(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def _check_layout(tensors: list[Tensor], alignment: int, size: int, data_offset: int) -> None:
    """Tensors follow one another without gap or overlap (what llama.cpp insists on) and end inside the file."""
    seen: set[str] = set()
    expected = 0
    for tensor in tensors:
        what = f"tensor {show(tensor.name)}"
        if tensor.name in seen:
            raise refuse(f"{what} twice")
        seen.add(tensor.name)
        if tensor.offset % alignment:
            raise refuse(f"{what} has the offset {tensor.offset}, not a multiple of the alignment {alignment}")
        if tensor.offset != expected:
            raise refuse(f"{what} has the offset {tensor.offset}, where {expected} was due")
        end = data_offset + tensor.offset + tensor.size
        if end > size:
            raise ModelFileRefused(
                f"the GGUF is cut short: {what} ends at byte {end}, but the file has {size}.",
                hint="The download was not finished; fetch it again.",
            )
        expected = _padded(tensor.offset + tensor.size, alignment)
