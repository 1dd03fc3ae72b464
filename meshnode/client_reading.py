"""What a question to a node is, and how the bytes of its answer are read, whole or in lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

from meshnode.domain import Record
from meshnode.errors import InternalFault, RequestError, ServingError
from meshnode.events import kind_of

TIMEOUT_S: Final = 30.0
LONGEST_LINE: Final = 16 << 20

R = TypeVar("R")
K = TypeVar("K", bound=Record)


class Ask(NamedTuple, Generic[R]):
    """One question. ``read`` makes the answer of the body; statuses from 400 on are errors, but for ``also``."""

    method: str
    path: str
    read: Callable[[bytes], R]
    body: Mapping[str, Any] | None = None
    timeout_s: float = TIMEOUT_S
    also: tuple[int, ...] = ()


class Flow(NamedTuple, Generic[R]):
    """One question whose answer comes in lines; ``read`` gives what a line holds, or ``None`` of the last."""

    path: str
    body: Mapping[str, Any]
    read: Callable[[bytes], Sequence[R] | None]


class Lines(Generic[R]):
    """Bytes of a :class:`Flow` in, what they hold out; ``over`` once the last line was read."""

    def __init__(self, read: Callable[[bytes], Sequence[R] | None]) -> None:
        self._read = read
        self._held = b""
        self.over = False

    def feed(self, piece: bytes) -> Iterator[R]:
        """What is whole now. Raises what a line says went wrong, after all that came before it."""
        *lines, self._held = (self._held + piece).split(b"\n")
        for line in lines:
            yield from self._line(line)
        if len(self._held) > LONGEST_LINE:
            raise InternalFault(f"The node sent a line of more than {LONGEST_LINE} bytes.")

    def end(self) -> Iterator[R]:
        """What was left without a line's end."""
        held, self._held = self._held, b""
        yield from self._line(held)

    def _line(self, line: bytes) -> Iterator[R]:
        if self.over or not line.strip():
            return
        found = self._read(line.rstrip(b"\r"))
        self.over = found is None
        yield from found or ()


class _Error(Record, frozen=True):
    message: str = ""
    code: str | None = None
    param: str | None = None
    hint: str = ""


class _Envelope(Record, frozen=True):
    error: _Error | None = None


def as_record(kind: type[R]) -> Callable[[bytes], R]:
    """Reads JSON as ``kind``. The reader raises InternalFault for what this version does not understand."""

    def read(data: bytes) -> R:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise InternalFault(
                f"The node's answer is not what this version understands ({error}).",
                hint="Are node and command line of one version? Restart the node: meshnode stop, then meshnode up.",
            )

    return read


def raise_envelope(body: bytes, status: int) -> NoReturn:
    """Raise what an HTTP error body says, as the class of :mod:`meshnode.errors` that its code names."""
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except msgspec.DecodeError:
        error = None
    _raise(error or _Error(message=f"The node answered with HTTP {status} and no explanation."), status)


def field(name: str, kind: type[R]) -> Callable[[bytes], R]:
    """Reads one field of an object."""
    record = msgspec.defstruct("Answer", [(name, kind)])
    read = as_record(record)

    def value(data: bytes) -> R:
        found: R = getattr(read(data), name)
        return found

    return value


def listed(name: str, kind: type[K]) -> Callable[[bytes], tuple[K, ...]]:
    """Reads one field of an object that is a list of records."""
    return field(name, tuple[kind, ...])  # type: ignore[valid-type]  # mypy takes no variable as a type


def nothing(data: bytes) -> None:
    """Reads nothing."""
    return


def checked(line: bytes) -> bytes:
    """The line. Raises the error that it is, where it is one."""
    if b'"error"' in line and (error := as_record(_Envelope)(line).error) is not None:
        _raise(error, 500)
    return line


def _raise(error: _Error, status: int) -> NoReturn:
    fallback = RequestError if 400 <= status < 500 else ServingError
    kind = kind_of(error.code or "") or fallback
    raise kind(error.message, hint=error.hint, param=error.param)
