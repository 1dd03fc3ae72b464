"""The body of ``POST /v1/chat/compare`` ⇄ one request for each of its models. Pure.

It is a chat body with ``models``, 2 to 8 of them, in the place of ``model``; each is asked for itself, so that there is
none to fall back to, and nothing of it is kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec

from meshnode.api.chat_schema import parse_chat
from meshnode.api.fields import convert, unsupported
from meshnode.api.schema import Ask, Asker
from meshnode.api.strictjson import parse_object
from meshnode.domain import ModelId, RequestId
from meshnode.errors import InvalidField

FEWEST: Final = 2
MOST: Final = 8


Models = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=256)]],
    msgspec.Meta(min_length=FEWEST, max_length=MOST, description=f"an array of {FEWEST} to {MOST} names of models"),
]


class CompareFields(msgspec.Struct, kw_only=True):
    """What comparing has that chat has not."""

    models: Models


class Comparison(NamedTuple):
    """One chat request for each model, in the order they were named; ``ask`` is what they have in common."""

    ask: Ask
    asks: tuple[Ask, ...]


def parse_comparison(body: bytes, asker: Asker) -> Comparison:
    """Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    raw = parse_object(body)
    models = convert({"models": raw.pop("models", None)} if raw.get("models") is not None else {}, CompareFields).models
    if raw.pop("model", None) is not None:
        raise InvalidField("model: comparing takes models instead.", hint="Leave it out.", param="model")
    if raw.get("fallback_models"):
        raise unsupported("fallback_models", "Each model answers for itself. Leave it out.")
    ask = parse_chat(msgspec.json.encode(raw), asker)
    if ask.keep.store or ask.keep.background:
        raise unsupported("store" if ask.keep.store else "async_mode", "A comparison is not kept.")
    return Comparison(ask, tuple(_of_model(ask, index, model) for index, model in enumerate(models)))


def _of_model(ask: Ask, index: int, model: str) -> Ask:
    changes: dict[str, Any] = {"model": ModelId(model), "id": RequestId(f"{ask.request.id}.{index}")}
    return ask._replace(request=msgspec.structs.replace(ask.request, **changes), model=model)
