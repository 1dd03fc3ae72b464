"""Length-prefixed frames, sans-IO: bytes in, whole frames out.

A frame is a 4-byte big-endian length and that many bytes of payload. The bound is checked before a byte of
payload is kept, so that a peer cannot make us hold more than one frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from meshnode.errors import ProtocolViolation

_PREFIX = struct.Struct(">I")


def pack(payload: bytes, *, limit: int) -> bytes:
    """One frame. Raises ProtocolViolation when the payload is longer than ``limit`` bytes."""
    if len(payload) > limit:
        raise ProtocolViolation(f"a frame of {len(payload)} bytes is over the limit of {limit}.")
    return _PREFIX.pack(len(payload)) + payload


class FrameReader:
    """Collects bytes and gives whole payloads.

    After a ProtocolViolation the reader is spent: a stream out of step cannot be read again.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Payloads completed by ``data``, in order. Raises ProtocolViolation on a length over the limit."""
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            (length,) = _PREFIX.unpack_from(self._buffer)
            if length > self._limit:
                raise ProtocolViolation(f"a frame of {length} bytes was announced; the limit is {self._limit}.")
            end = _PREFIX.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[_PREFIX.size : end])
            del self._buffer[:end]
            yield payload

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not whole yet."""
        return len(self._buffer)
