"""From a file on disk to the card that describes it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import ModelFileRefused
from meshnode.models.gguf import GgufMetadata, check_servable, read_metadata
from meshnode.models.names import canonical_id, slug

_AS_THE_FILE_SAYS: Final = (
    "architecture", "context_length", "parameters", "layers", "embedding_length", "kv_bytes_per_token", "state_bytes",
    "row_floats", "active_bytes", "vocab_size", "name", "license", "template_sha256",
)  # fmt: skip
"""Fields that a card has of its file's metadata, under the same names."""


def open_model(path: Path) -> BinaryIO:
    """A model file for reading; links are followed (it is the owner's own path), but only a plain file is taken.

    Raises ModelFileRefused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        raise ModelFileRefused(
            f"{path} cannot be opened: {os.strerror(number or 0)}.", hint="Check the path and who may read it."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelFileRefused(f"{path} is not a file.", hint="Give the path of a .gguf file.")
    return os.fdopen(descriptor, "rb")


def inspect(file: BinaryIO, path: Path) -> GgufMetadata:
    """The metadata of an open file that can be served. Raises ModelFileRefused, naming the file."""
    try:
        metadata = read_metadata(file, os.fstat(file.fileno()).st_size)
        check_servable(metadata)
    except ModelFileRefused as error:
        raise ModelFileRefused(f"{path.name}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise unreadable(path, error) from error
    return metadata


def unreadable(path: Path, error: OSError) -> ModelFileRefused:
    """What it means that reading an open file failed."""
    return ModelFileRefused(
        f"{path} cannot be read: {os.strerror(error.errno or 0)}.", hint="Check the disk it lies on."
    )


def read_card(
    path: Path,
    *,
    name: str = "",
    sha256: str = "",
    source: str = "",
    added: int = 0,
    managed: bool = False,
    id: ModelId | None = None,  # noqa: A002  the card's own word
) -> ModelCard:
    """Read the file's metadata and describe it, in some hundredths of a second. Raises ModelFileRefused.

    ``name`` is what to call it (its file name, without ``id``); ``added`` in seconds since 1970."""
    with open_model(path) as file:
        metadata = inspect(file, path)
        found = os.fstat(file.fileno())
    chosen = id or canonical_id(name or path.name, metadata)
    return ModelCard(
        id=chosen,
        path=str(path),
        size=found.st_size,
        modified_ns=found.st_mtime_ns,
        sha256=sha256,
        quantisation=chosen.rpartition(":")[2],
        **{name: getattr(metadata, name) for name in _AS_THE_FILE_SAYS},
        family=slug(metadata.basename) or metadata.architecture,
        source=source,
        added=added,
        managed=managed,
        kinds=metadata.kinds,
    )


def unchanged(card: ModelCard) -> bool:
    """Whether the card's file is still there with the size and time that were read."""
    try:
        found = os.stat(card.path)
    except OSError:
        return False
    return found.st_size == card.size and found.st_mtime_ns == card.modified_ns
