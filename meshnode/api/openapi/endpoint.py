"""One path of the API as it is described: what comes in, what goes out, who may. Plain records."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Access(enum.StrEnum):
    """Who is answered."""

    OPEN = "open"
    """Anybody who may knock at all."""
    KEY = "key"
    """Anybody on loopback unless ``api.local_key`` is set, the holder of a key from elsewhere."""
    OWNER = "owner"
    """The control socket, or the admin token."""


class Many(NamedTuple):
    """An array of one shape."""

    of: Any


class Either(NamedTuple):
    """One of several shapes."""

    of: tuple[Any, ...]


Shape = type | Many | Either | Mapping[str, Any]
"""A struct, an array, one of several, or a JSON schema written by hand where the code checks by hand."""

STRING: Final[Mapping[str, Any]] = {"type": "string"}
WHOLE: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}


class Parameter(NamedTuple):
    """Something that is said beside the body: in the ``path``, the ``query`` or a ``header``."""

    name: str
    place: str
    about: str
    schema: Mapping[str, Any] = STRING


class Envelope(enum.StrEnum):
    """In which shape an error comes."""

    OPENAI = "Error"
    ANTHROPIC = "AnthropicError"
    EITHER = "EitherError"
    """As the caller's headers ask for."""


class Endpoint(NamedTuple):
    """One method of one path. ``name`` is its id for generators of clients, ``room`` the heading it stands under.

    ``answer`` comes with ``status`` and ``media``; ``event`` is the data of one event where the answer can be a stream.
    ``refused`` are statuses beyond those that follow from the access and the body.
    """

    method: str
    path: str
    name: str
    room: str
    summary: str
    about: str = ""
    access: Access = Access.KEY
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    other_bodies: tuple[type, ...] = ()
    """What may come instead."""
    body_media: str = "application/json"
    answer: Shape | None = None
    media: str = "application/json"
    status: int = 200
    event: Shape | None = None
    envelope: Envelope = Envelope.OPENAI
    refused: tuple[int, ...] = ()
    also: tuple[tuple[int, Shape], ...] = ()
    """Further statuses whose body is no error's."""
    same_as: str = ""
    """The path at which the same is asked, where this one is only another way there."""
    generates: bool = False
    """A model answers: the headers about its way come with it, and it may fail as models do."""

    @property
    def bodies(self) -> tuple[type, ...]:
        """All that may come in."""
        return () if self.body is None else (self.body, *self.other_bodies)


def structs_in(shape: Shape | None) -> list[type]:
    """The structs that a shape is made of."""
    if isinstance(shape, Many):
        return structs_in(shape.of)
    if isinstance(shape, Either):
        return [kind for one in shape.of for kind in structs_in(one)]
    return [shape] if isinstance(shape, type) else []


def path_parameters(path: str) -> list[str]:
    """The names in braces."""
    return [piece[1:-1] for piece in path.split("/") if piece.startswith("{") and piece.endswith("}")]
