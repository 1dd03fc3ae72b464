"""The body of an ask: a request as it travels, which is less than what a node asks of its own engine. Pure.

Only what shapes the answer is in it: no caller, no class, no engine knob, no path. It is decoded exactly, so that a
field this version does not know is refused by name, not left out of the answer. Ranges are judged where it is served
(:mod:`meshnode.mesh.admission`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from meshnode.domain import (
    Constraint,
    Continuation,
    GenerationRequest,
    Message,
    Sampling,
    Stopping,
    Tool,
    ToolChoice,
)
from meshnode.errors import InvalidField, ProtocolViolation, UnknownField
from meshnode.wire.canonical import FAULTS, encode, place, unreadable


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One request. ``kind`` and ``model`` stand in its terms.

    generate: ``messages`` or ``prompt``; embed: ``inputs`` (texts or token ids) and ``dimensions``; rerank: ``query``
    and ``documents``; count: as generate. ``continuation`` is an answer begun elsewhere, to be continued.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    suffix: str | None = None
    echo: bool = False
    choices: int = 1
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    top_logprobs: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    constraint: Constraint | None = None
    reasoning_effort: str | None = None
    template_kwargs: str = "{}"
    continuation: Continuation | None = None
    inputs: tuple[str | tuple[int, ...], ...] = ()
    dimensions: int | None = None
    transforms: tuple[str, ...] = ()
    query: str = ""
    documents: tuple[str, ...] = ()


FROM_REQUEST: Final = tuple(name for name in Body.__struct_fields__ if name in GenerationRequest.__struct_fields__)
"""Fields that a request and its body share, by the same names."""
_BODY: Final = msgspec.msgpack.Decoder(Body)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(\w{1,64})`")


def body_of(request: GenerationRequest) -> Body:
    """The part of a request that travels."""
    return Body(**{name: getattr(request, name) for name in FROM_REQUEST})


def encode_body(body: Body) -> bytes:
    """The bytes that travel, and that the terms commit to by :func:`sha256`.

    Whole numbers in the place of floats, and lists in that of tuples, become what the other end will see. A record of
    more than fifteen fields is written with a 16-bit count, however few are left in it. Raises InvalidField for what
    has no encoding, such as half a surrogate pair.
    """
    try:
        return encode(_BODY.decode(encode(body)))
    except (ProtocolViolation, msgspec.ValidationError):
        hint = "Send Unicode text and numbers of at most 64 bits."
        raise InvalidField("the request holds a value that cannot be sent to a peer.", hint=hint) from None


def sha256(data: bytes) -> bytes:
    """The commitment."""
    return hashlib.sha256(data).digest()


def decode_body(data: bytes) -> Body:
    """Inverse of :func:`encode_body`.

    Raises UnknownField that names the field, InvalidField that names where a word (a role, a kind of part) is of a
    later version, or ProtocolViolation for what no version writes.
    """
    try:
        body = _BODY.decode(data)
    except msgspec.ValidationError as error:
        _refuse_later(error)
        unreadable("a request", error)
    except FAULTS as error:
        unreadable("a request", error)
    if encode(body) != data:
        raise ProtocolViolation("a request is not in its one encoding.")
    return body


def _refuse_later(error: msgspec.ValidationError) -> None:
    """Raise what a caller of a later version should hear, if it is that."""
    where, text = place(error).removeprefix("$").lstrip("."), str(error)
    if text.startswith("Object contains unknown field"):
        name = _UNKNOWN.match(text)
        path = f"{where}.{name[1]}".lstrip(".") if name else "a field without a proper name"
        raise UnknownField(f"the provider's version does not know {path}.", hint="Leave it out.", param=path) from None
    if text.startswith(("Invalid value", "Invalid enum value")) and where:
        raise InvalidField(
            f"{where} has a value that the provider's version does not know.", hint="Choose another.", param=where
        ) from None
