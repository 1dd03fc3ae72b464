"""An upload's ``multipart/form-data`` (RFC 7578) as it arrives, piece by piece. Pure.

Quart's own reader puts what is large into a file on the disk as it is; this one hands it on and keeps next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from meshnode.errors import MalformedBody, UnsupportedMediaType

MOST_PARTS: Final = 16
"""Fields of one upload; four are documented."""
MOST_BOUNDARY: Final = 70
"""Characters of a boundary (RFC 2046, 5.1.1)."""
STEP: Final = 1 << 16
"""Bytes that are looked at in one go."""
_MOST_HELD: Final = 3 * STEP
"""Bytes the decoder may hold back: headers of a part, or what may yet be a boundary."""


class Piece(NamedTuple):
    """Some of one part: its name, its file name where it is a file, and whether it ends with this."""

    name: str
    filename: str | None
    data: bytes
    last: bool


def boundary_of(content_type: str | None) -> bytes:
    """The boundary that a ``Content-Type`` names. Raises UnsupportedMediaType or MalformedBody."""
    kind, options = parse_options_header(content_type)
    if kind.lower() != "multipart/form-data":
        raise UnsupportedMediaType("a file is sent as multipart/form-data.", hint="Its fields are purpose and file.")
    boundary = options.get("boundary", "")
    if not boundary.isascii() or not 1 <= len(boundary) <= MOST_BOUNDARY:
        raise MalformedBody(f"the multipart boundary must be 1 to {MOST_BOUNDARY} characters of ASCII.")
    return boundary.encode()


class Reader:
    """One upload's parts."""

    def __init__(self, boundary: bytes) -> None:
        self._decoder = MultipartDecoder(boundary, _MOST_HELD, max_parts=MOST_PARTS)
        self._part: tuple[str, str | None] = ("", None)

    def feed(self, data: bytes) -> Iterator[Piece]:
        """What these bytes of the body complete. Raises MalformedBody."""
        for start in range(0, len(data), STEP):
            yield from self._decoded(data[start : start + STEP])

    def end(self) -> Iterator[Piece]:
        """What the end of the body completes. Raises MalformedBody where something is missing."""
        yield from self._decoded(None)

    def _decoded(self, data: bytes | None) -> Iterator[Piece]:
        decoder = self._decoder
        try:
            decoder.receive_data(data)
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                if isinstance(event, File | Field):
                    if not isinstance(event.name, str):
                        raise MalformedBody("a part of the upload has no name.")
                    self._part = (event.name, event.filename if isinstance(event, File) else None)
                elif isinstance(event, Data):
                    yield Piece(*self._part, event.data, not event.more_data)
        except ValueError:
            raise MalformedBody("the body is not multipart/form-data, or ends too early.") from None
        except RequestEntityTooLarge:
            raise MalformedBody(f"the upload has more than {MOST_PARTS} parts, or too long headers.") from None
