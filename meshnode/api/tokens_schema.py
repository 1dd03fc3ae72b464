"""The bodies of ``POST /tokenize``, ``/detokenize`` and ``/apply-template`` ⇄ the domain. Pure.

Source: llama.cpp's server, whose shapes these are. Beyond it, ``/tokenize`` takes its text as ``prompt`` or ``text``
(so does vLLM), and a conversation as chat completions takes it; a ``model`` may be named, since there may be several.
What chat's fields say of sampling is read, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from meshnode.api.chat_schema import read_chat
from meshnode.api.fields import Refusal, check_names, convert, integer, only, text
from meshnode.api.schema import Ask, Asker, Keep
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest, Kind, ModelId
from meshnode.errors import InvalidField

MOST_TOKENS: Final = 1 << 20
"""Token ids of one request to read back."""

Tokens = Annotated[
    list[Annotated[int, integer(0, 2**31 - 1)]],
    msgspec.Meta(max_length=MOST_TOKENS, description=f"an array of at most {MOST_TOKENS} token ids"),
]


class TextFields(msgspec.Struct, kw_only=True):
    """``/tokenize`` with a text, under one of three names; ``add_special`` is false where it is left out."""

    content: str | None = None
    prompt: str | None = None
    text: str | None = None
    add_special: bool | None = None
    with_pieces: bool | None = None
    model: Annotated[str, text(256)] | None = None
    deadline_ms: Annotated[int, integer(1, 86_400_000)] | None = None


class TokenFields(msgspec.Struct, kw_only=True):
    """``/detokenize``."""

    tokens: Tokens
    model: Annotated[str, text(256)] | None = None
    deadline_ms: Annotated[int, integer(1, 86_400_000)] | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {"parse_special": only(True)}
_NAMES: Final = ("content", "prompt", "text")
_OF_TEXT: Final = ("add_special", "parse_special")


def parse_tokenize(body: bytes, asker: Asker) -> Ask:
    """A text or a conversation to be cut into tokens. Raises MalformedBody and the errors of fields."""
    raw = parse_object(body)
    if raw.get("messages") is not None:
        return _tokenize_chat(raw, asker)
    check_names(raw, TextFields, REFUSALS)
    fields = convert(raw, TextFields)
    given = [name for name in _NAMES if getattr(fields, name) is not None]
    if len(given) != 1:
        what = f"{given[0]} and {given[1]} are both given" if given else "content is missing"
        raise InvalidField(f"{what}.", hint="Send one text, or messages.", param=given[1] if given else "content")
    pieces = fields.with_pieces is True
    request = _request(fields, asker, getattr(fields, given[0]), add_special=fields.add_special is True, echo=pieces)
    return _shown("pieces" if pieces else "tokens", request, fields.model)


def parse_detokenize(body: bytes, asker: Asker) -> Ask:
    """Token ids to be read back. Raises MalformedBody and the errors of fields."""
    raw = parse_object(body)
    check_names(raw, TokenFields, {})
    fields = convert(raw, TokenFields)
    return _shown("content", _request(fields, asker, tuple(fields.tokens)), fields.model)


def parse_apply_template(body: bytes, asker: Asker) -> Ask:
    """A chat request, to be rendered only. Raises MalformedBody and the errors of fields."""
    ask = read_chat(parse_object(body), asker)
    return _shown("prompt", to_count(ask.request), ask.model)._replace(keep=Keep(template=ask.keep.template))


def to_count(request: GenerationRequest) -> GenerationRequest:
    """The request to count the prompt of one that generates."""
    return msgspec.structs.replace(request, kind=Kind.COUNT, echo=False, constraint=None, top_logprobs=None, choices=1)


def _tokenize_chat(raw: Mapping[str, Any], asker: Asker) -> Ask:
    """A conversation is rendered with all that belongs to it, so that nothing is left to be said about that."""
    twice = next((name for name in _NAMES if raw.get(name) is not None), None)
    if twice is not None:
        raise InvalidField(f"messages and {twice} are both given.", hint="Send one of them.", param=twice)
    own = {name: raw[name] for name in ("with_pieces", *_OF_TEXT) if name in raw}
    check_names(own, TextFields, REFUSALS)
    pieces = convert(own, TextFields).with_pieces is True
    ask = read_chat({name: value for name, value in raw.items() if name not in own}, asker)
    request = msgspec.structs.replace(to_count(ask.request), echo=pieces)
    return _shown("pieces" if pieces else "tokens", request, ask.model)._replace(keep=Keep(template=ask.keep.template))


def _request(
    fields: TextFields | TokenFields,
    asker: Asker,
    prompt: str | tuple[int, ...],
    *,
    add_special: bool = False,
    echo: bool = False,
) -> GenerationRequest:
    return GenerationRequest(
        id=asker.id,
        caller=asker.caller,
        model=ModelId(fields.model or ""),
        kind=Kind.COUNT,
        prompt=prompt,
        add_special=add_special,
        echo=echo,
        deadline_s=None if fields.deadline_ms is None else fields.deadline_ms / 1000,
    )


def _shown(what: str, request: GenerationRequest, model: str | None) -> Ask:
    return Ask(request, stream=False, include_usage=True, model=model, echo={"show": what})
