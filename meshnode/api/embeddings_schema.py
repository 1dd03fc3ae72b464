"""The body of ``POST /v1/embeddings`` ⇄ the domain. Pure.

Source: OpenAI's API reference for embeddings. Beyond it, texts and token ids may stand beside each other in one array.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from meshnode.api.fields import check_names, convert, integer, invalid, text
from meshnode.api.routing_schema import RoutingFields, routing
from meshnode.api.schema import Ask, Asker
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest, Kind
from meshnode.errors import InvalidField

MOST_INPUTS: Final = 2048
"""Inputs of one request; OpenAI's own bound."""
MOST_DIMENSIONS: Final = 65_536
"""No model's vectors are longer."""
INPUTS: Final = f"a string, an array of token ids, or an array of 1 to {MOST_INPUTS} of these, none of them empty"


class EmbeddingFields(RoutingFields, kw_only=True):
    """The fields of an embedding request that are honoured; ``input`` is checked by hand. ``user`` changes nothing."""

    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, integer(1, MOST_DIMENSIONS)] | None = None
    deadline_ms: Annotated[int, integer(1, 86_400_000)] | None = None
    session_id: Annotated[str, text(256)] | None = None
    user: Annotated[str, text(256)] | None = None


def parse_embedding(body: bytes, asker: Asker) -> Ask:
    """An embedding request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    raw = parse_object(body)
    check_names(raw, EmbeddingFields, {})
    fields = convert(raw, EmbeddingFields)
    request = GenerationRequest(
        id=asker.id,
        caller=asker.caller,
        kind=Kind.EMBED,
        inputs=_inputs(fields.input),
        dimensions=fields.dimensions,
        deadline_s=None if fields.deadline_ms is None else fields.deadline_ms / 1000,
        session=fields.session_id,
        **routing(fields),
    )
    echo = {"compact": fields.encoding_format == "base64"}
    return Ask(request, stream=False, include_usage=True, model=fields.model, echo=echo)


def _inputs(given: object) -> tuple[str | tuple[int, ...], ...]:
    """Every input. Raises InvalidField."""
    if isinstance(given, str) or (isinstance(given, list) and given and not isinstance(given[0], str | list)):
        return (_one("input", given),)
    if not isinstance(given, list) or not given:
        raise invalid("input", given, INPUTS)
    if len(given) > MOST_INPUTS:
        what = f"input has {len(given)} entries; at most {MOST_INPUTS} are taken."
        raise InvalidField(what, hint="Send them in several requests.", param="input")
    return tuple(_one(f"input[{index}]", one) for index, one in enumerate(given))


def _one(path: str, given: object) -> str | tuple[int, ...]:
    if given in ("", []):
        raise InvalidField(f"{path} is empty.", hint="Leave it out.", param=path)
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise invalid(path, given, INPUTS)
    for index, token in enumerate(given):
        if type(token) is not int or not 0 <= token < 2**31:
            raise invalid(f"{path}[{index}]", token, "a token id")
    return tuple(given)
