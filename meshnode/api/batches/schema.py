"""Files and batches as clients ask for them and see them. Pure.

Source: OpenAI's API reference for files and batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from meshnode.api.batches.multipart import Piece
from meshnode.api.fields import check_names, convert, integer, invalid, text, unsupported
from meshnode.api.strictjson import parse_object
from meshnode.errors import InvalidField, MalformedBody, UnknownField
from meshnode.gateway.batch import Batch, Fault
from meshnode.gateway.batches import Creation
from meshnode.gateway.files import BATCH, LONGEST_S, SHORTEST_S, StoredFile

T = TypeVar("T", bound=msgspec.Struct)

MOST_FIELD: Final = 256
"""Bytes of an upload's field that is no file."""
MOST_FILENAME: Final = 255
MOST_METADATA: Final = 16
_PURPOSES: Final = ("assistants", "fine-tune", "vision", "user_data", "evals")
"""Those that OpenAI documents and that nothing here has a use for."""
_TEXTS: Final = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


class Expiry(msgspec.Struct, kw_only=True):
    """``output_expires_after`` and ``expires_after``."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, integer(SHORTEST_S, LONGEST_S)]


class BatchFields(msgspec.Struct, kw_only=True):
    """``POST /v1/batches``."""

    input_file_id: Annotated[str, text(128)]
    endpoint: Annotated[str, text(128)]
    completion_window: Literal["24h"]
    metadata: dict[str, Any] | None = None
    output_expires_after: Expiry | None = None


class FileListFields(msgspec.Struct, kw_only=True):
    """``GET /v1/files``."""

    after: Annotated[str, text(128)] | None = None
    limit: Annotated[int, integer(1, 10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    purpose: Annotated[str, text(64)] | None = None


class BatchListFields(msgspec.Struct, kw_only=True):
    """``GET /v1/batches``."""

    after: Annotated[str, text(128)] | None = None
    limit: Annotated[int, integer(1, 100)] = 20


def parse_batch(body: bytes, endpoints: Iterable[str]) -> Creation:
    """What a client wants done. Raises MalformedBody, InvalidField or UnknownField."""
    raw = parse_object(body)
    check_names(raw, BatchFields, {})
    fields = convert(raw, BatchFields)
    served = sorted(endpoints)
    if fields.endpoint not in served:
        raise invalid("endpoint", fields.endpoint, " or ".join(served))
    lasts = LONGEST_S if fields.output_expires_after is None else fields.output_expires_after.seconds
    return Creation(fields.input_file_id, fields.endpoint, lasts, _metadata(fields.metadata))


def _metadata(given: Mapping[str, Any] | None) -> dict[str, str] | None:
    allowed = f"at most {MOST_METADATA} names of 64 characters, each with a string of at most 512"
    if given is None:
        return None
    for name, value in given.items():
        if len(name) > 64 or not isinstance(value, str) or len(value) > 512:
            raise invalid("metadata", given, allowed)
    if len(given) > MOST_METADATA:
        raise invalid("metadata", given, allowed)
    return dict(given)


def parse_query(args: Mapping[str, str], kind: type[T]) -> T:
    """The parameters of a list. Raises InvalidField or UnknownField."""
    raw: dict[str, object] = dict(args)
    check_names(raw, kind, {})
    limit = args.get("limit", "")
    if limit.isascii() and limit.isdigit() and len(limit) < 10:
        raw["limit"] = int(limit)
    return convert(raw, kind)


# --- uploads --------------------------------------------------------------------------------------


class Handed(NamedTuple):
    """What came with a file."""

    filename: str
    purpose: str
    lasts_s: int


class Form:
    """The fields of an upload as they arrive; the file itself is passed on."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._whole: set[str] = set()
        self._filename: str | None = None

    def take(self, piece: Piece) -> bytes:
        """Bytes of the file that came with this piece. Raises InvalidField, UnknownField or MalformedBody."""
        if piece.name in self._whole:
            raise MalformedBody("the upload names a field twice.", hint="Send each field once, one file in all.")
        if piece.last:
            self._whole.add(piece.name)
        if piece.name == "file":
            if piece.filename is None:
                raise InvalidField("file is not sent as a file.", hint="Give the part a file name.", param="file")
            self._filename = piece.filename
            return piece.data
        if piece.name not in _TEXTS:
            raise _unknown(piece.name)
        found = self._texts.get(piece.name, b"") + piece.data
        if len(found) > MOST_FIELD:
            raise InvalidField(f"{piece.name} is too long.", hint=f"At most {MOST_FIELD} bytes.", param=piece.name)
        self._texts[piece.name] = found
        return b""

    def handed(self) -> Handed:
        """All of it, once the body ended. Raises InvalidField or UnsupportedParameter."""
        texts = {name: data.decode("utf-8", "replace") for name, data in self._texts.items()}
        for name in ("purpose", "file"):
            if name not in self._whole:
                raise InvalidField(f"{name} is missing.", hint="The fields are purpose and file.", param=name)
        purpose = texts["purpose"]
        if purpose in _PURPOSES:
            raise unsupported("purpose", f'Allowed: "{BATCH}".', what=f" {purpose}")
        if purpose != BATCH:
            raise invalid("purpose", purpose, f'"{BATCH}"')
        return Handed(_plain(self._filename or ""), purpose, _lasts(texts))


def _lasts(texts: Mapping[str, str]) -> int:
    sent = {name.removesuffix("]").partition("[")[2]: value for name, value in texts.items() if "[" in name}
    if not sent:
        return LONGEST_S
    raw: dict[str, object] = dict(sent)
    seconds = sent.get("seconds", "")
    if seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        raw["seconds"] = int(seconds)
    return convert(raw, Expiry, path="expires_after").seconds


def _unknown(name: str) -> UnknownField:
    shown = "".join(char if char.isprintable() else "?" for char in name)[:64]
    return UnknownField(f"{shown} is not a documented field.", hint="The fields are purpose and file.", param=shown)


def _plain(filename: str) -> str:
    """A file's name without folders and control characters."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in name if char.isprintable())[:MOST_FILENAME] or "file"


# --- what is shown --------------------------------------------------------------------------------


def file_object(file: StoredFile) -> dict[str, Any]:
    """A file as clients see it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created,
        "expires_at": file.expires,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch as clients see it; its files are named once they are whole."""
    moments = {
        f"{name}_at": batch.moments.get(name)
        for name in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    }
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": list(map(_fault, batch.faults))} if batch.faults else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status.value,
        "output_file_id": batch.outputs if batch.has_output else None,
        "error_file_id": batch.errors if batch.has_errors else None,
        "created_at": batch.created,
        "expires_at": batch.expires,
        **moments,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": _usage(batch),
        "metadata": batch.metadata,
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {"code": fault.code, "message": fault.message, "line": fault.line, "param": fault.param}


def _usage(batch: Batch) -> dict[str, Any]:
    counts = batch.usage
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
