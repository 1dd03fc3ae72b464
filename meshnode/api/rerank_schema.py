"""The body of ``POST /v1/rerank`` ⇄ the domain. Pure.

Sources: the rerank APIs of Jina, Cohere and llama.cpp's server, which agree on ``query``, ``documents`` and ``top_n``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, never, only, text
from meshnode.api.schema import Ask, Asker
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest, Kind, ModelId
from meshnode.errors import InvalidField

MOST_DOCUMENTS: Final = 2048

Documents = Annotated[
    list[Any],
    msgspec.Meta(
        min_length=1, max_length=MOST_DOCUMENTS, description=f"an array of 1 to {MOST_DOCUMENTS} strings or {{text}}"
    ),
]


class RerankFields(msgspec.Struct, kw_only=True):
    """The fields of a rerank request that are honoured; ``user`` changes nothing."""

    query: str
    documents: Documents
    model: Annotated[str, text(256)] | None = None
    top_n: Annotated[int, integer(1, 2**31 - 1)] | None = None
    return_documents: bool | None = None
    deadline_ms: Annotated[int, integer(1, 86_400_000)] | None = None
    session_id: Annotated[str, text(256)] | None = None
    user: Annotated[str, text(256)] | None = None


class DocumentFields(msgspec.Struct, kw_only=True):
    """``documents[]`` as an object."""

    text: str


REFUSALS: Final[Mapping[str, Refusal]] = {
    "rank_fields": only(["text"]),
    "max_chunks_per_doc": never(),
    "max_tokens_per_doc": never(),
    "truncation": only(False),
}


def parse_rerank(body: bytes, asker: Asker) -> Ask:
    """A rerank request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter.

    The answer's echo has ``top_n`` and, where they are to be returned, the ``documents``.
    """
    raw = parse_object(body)
    check_names(raw, RerankFields, REFUSALS)
    fields = convert(raw, RerankFields)
    if not fields.query:
        raise InvalidField("query is empty.", hint="Send a question.", param="query")
    documents = tuple(_document(one, f"documents[{index}]") for index, one in enumerate(fields.documents))
    request = GenerationRequest(
        id=asker.id,
        caller=asker.caller,
        model=ModelId(fields.model or ""),
        kind=Kind.RERANK,
        query=fields.query,
        documents=documents,
        deadline_s=None if fields.deadline_ms is None else fields.deadline_ms / 1000,
        session=fields.session_id,
    )
    echo: dict[str, Any] = {} if fields.top_n is None else {"top_n": fields.top_n}
    if fields.return_documents:
        echo["documents"] = list(documents)
    return Ask(request, stream=False, include_usage=True, model=fields.model, echo=echo)


def _document(given: object, path: str) -> str:
    if isinstance(given, dict):
        check_names(given, DocumentFields, {}, path=path)
        given = convert(given, DocumentFields, path=path).text
    if not isinstance(given, str):
        raise invalid(path, given, "a string, or an object with text")
    if not given:
        raise InvalidField(f"{path} is empty.", hint="Leave it out.", param=path)
    return given
