"""The OpenAPI document (version 3.1) of a table of endpoints. Pure.

Source: the OpenAPI Specification 3.1.1; schemas are JSON Schema 2020-12, as it says.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from meshnode import errors
from meshnode.api.openapi import answers
from meshnode.api.openapi.endpoint import (
    Access,
    Either,
    Endpoint,
    Envelope,
    Parameter,
    Shape,
    path_parameters,
    structs_in,
)
from meshnode.api.openapi.schemas import Schemas
from meshnode.errors import MeshnodeError

ABOUT: Final = (
    "One endpoint for open-weight language models, here and at peers. OpenAI's and Anthropic's clients work by "
    "changing their base URL. What each field does, which have no effect and why, and snippets to paste: /docs."
)
ENVELOPES: Final[Mapping[Envelope, Shape]] = {
    Envelope.OPENAI: answers.Error,
    Envelope.ANTHROPIC: answers.AnthropicError,
    Envelope.EITHER: Either((answers.Error, answers.AnthropicError)),
}
_MODEL_FAILS: Final = (402, 404, 422, 429, 502, 503, 504, 507)
_RETRIED: Final = (429, 502, 503)
_HEADERS: Final[Mapping[str, str]] = {
    "x-request-id": "The request's id; the caller's own where it sent one.",
    "x-mesh-node": "Peer id of the node that answered.",
    "x-mesh-model": "The model that answered.",
    "x-mesh-route": "`local`, `peer` or `background`, how many were tried, and why this one.",
    "x-mesh-transform": "What was done to a conversation that was too long, where that was asked for.",
    "x-mesh-warning": "What went wrong beside a whole answer: it could not be kept, say.",
    "x-mesh-receipt": "Id of the receipt of an answer that a peer gave: `GET /api/receipts/{id}`.",
    "x-mesh-cost": "What the answer cost, in micro-credits; 0 for one of this node's own. Of a stream, its last chunk.",
    "x-mesh-cost-upstream": "What this node owes the peer for it.",
    "x-mesh-margin": "The difference: nothing, this node resells at cost.",
    "x-mesh-queue-ms": "Milliseconds the request waited for its turn.",
    "x-mesh-overhead-ms": "Milliseconds that are neither waiting nor computing.",
    "retry-after": "Seconds until trying again may help, at most 120.",
    "retry-after-ms": "The same in milliseconds.",
    "x-should-retry": "`true` or `false`: what both official clients obey.",
}
HEADERS: Final = _HEADERS
"""What answers carry, and what each says."""
_OF_ANSWERS: Final = tuple(name for name in _HEADERS if name.startswith("x-mesh-"))
_OF_RETRIES: Final = ("retry-after", "retry-after-ms", "x-should-retry")
_ABSTRACT: Final = (errors.RequestError, errors.ServingError)
_OF_OWNERS: Final = (errors.DiskFull, errors.SourceFailed, errors.ModelFileRefused)
"""Errors of a machine's owner that a call may meet; the others end a start."""
_API_ERRORS: Final[tuple[type[MeshnodeError], ...]] = tuple(
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, (*_ABSTRACT, errors.PeerError, *_OF_OWNERS)) and kind not in _ABSTRACT
)
_REQUEST_ID: Final = Parameter("x-request-id", "header", "An id of the caller's own, to find the request again.")


def document(endpoints: Sequence[Endpoint], *, version: str, server: str = "/") -> dict[str, Any]:
    """The whole document."""
    schemas = Schemas(
        [body for each in endpoints for body in each.bodies],
        [kind for each in endpoints for shape in _shapes(each) for kind in structs_in(shape)]
        + [kind for shape in ENVELOPES.values() for kind in structs_in(shape)],
    )
    paths: dict[str, Any] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    used = {(each.envelope, status) for each in endpoints for status in statuses(each)}
    found = {
        "openapi": "3.1.1",
        "info": {
            "title": "meshnode",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": room} for room in dict.fromkeys(each.room for each in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {
                f"{envelope.value}{status}": _refusal(envelope, status, schemas) for envelope, status in sorted(used)
            },
            "headers": {name: {"description": about, "schema": {"type": "string"}} for name, about in _HEADERS.items()},
            "securitySchemes": _security_schemes(),
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))  # tuples as arrays
    return plain


def statuses(endpoint: Endpoint) -> list[int]:
    """With which statuses an endpoint may refuse."""
    found = {403, 500, *endpoint.refused}
    if endpoint.access is not Access.OPEN:
        found.add(401)
    if endpoint.body is not None:
        found |= {400, 413, 415}
    if endpoint.generates:
        found.update(_MODEL_FAILS)
    return sorted(found)


def error_statuses() -> list[int]:
    """Every status that an error of the API has."""
    return sorted({kind.status for kind in _API_ERRORS})


def codes(status: int) -> list[tuple[str, str]]:
    """The errors that have this status: code, and what each means."""
    return [(kind.code, first_sentence(kind)) for kind in _API_ERRORS if kind.status == status]


def first_sentence(kind: object) -> str:
    """What a docstring begins with, on one line."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.room],
        "summary": endpoint.summary,
    }
    if endpoint.same_as:
        found["x-same-as"] = endpoint.same_as
    if endpoint.about:
        found["description"] = endpoint.about
    parameters = [*_path_parameters(endpoint), *endpoint.parameters, _REQUEST_ID]
    found["parameters"] = [_parameter(each) for each in parameters]
    if endpoint.body is not None:
        either = [schemas.of(kind) for kind in endpoint.bodies]
        content = {endpoint.body_media: {"schema": {"anyOf": either} if len(either) > 1 else either[0]}}
        found["requestBody"] = {"required": True, "content": content}
    found["responses"] = {str(endpoint.status): _answer(endpoint, schemas)} | {
        str(status): {"$ref": f"#/components/responses/{endpoint.envelope.value}{status}"}
        for status in statuses(endpoint)
    }
    for status, shape in endpoint.also:
        found["responses"][str(status)] = _answer(endpoint._replace(answer=shape, event=None), schemas)
    found["security"] = _security(endpoint.access)
    return found


def _path_parameters(endpoint: Endpoint) -> list[Parameter]:
    told = {each.name for each in endpoint.parameters if each.place == "path"}
    missing = [name for name in path_parameters(endpoint.path) if name not in told]
    return [Parameter(name, "path", _PATH_WORDS.get(name, "Which one.")) for name in missing]


_PATH_WORDS: Final[Mapping[str, str]] = {
    "id_": "Its id.",
    "receipt": "Its id, as the answer's `x-mesh-receipt` had it.",
    "model": "The model's name, which may contain a colon and slashes.",
    "name": "The model's name, which may contain a colon and slashes.",
}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.about,
        "schema": dict(parameter.schema),
    }


def _answer(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    names = ["x-request-id", *(_OF_ANSWERS if endpoint.generates else ())]
    found: dict[str, Any] = {
        "description": "The answer.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    content = {}
    if endpoint.answer is not None:
        content[endpoint.media] = {"schema": schemas.of(endpoint.answer)}
    if endpoint.event is not None:
        content["text/event-stream"] = {"schema": schemas.of(endpoint.event)}
        found["description"] = "The answer; with `stream: true` as server-sent events, whose data the schema describes."
    return found | ({"content": content} if content else {})


def _refusal(envelope: Envelope, status: int, schemas: Schemas) -> dict[str, Any]:
    told = " ".join(f"`{code}`: {about}" for code, about in codes(status))
    names = ["x-request-id", *(_OF_RETRIES if status in _RETRIED else ())]
    return {
        "description": told or "Refused.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {"application/json": {"schema": schemas.of(ENVELOPES[envelope])}},
    }


def _security(access: Access) -> list[dict[str, list[str]]]:
    """One of these suffices; an empty one stands for nothing being asked."""
    match access:
        case Access.OPEN:
            return []
        case Access.KEY:
            return [{}, {"key": []}, {"anthropicKey": []}]
        case Access.OWNER:
            return [{"adminToken": []}]


def _security_schemes() -> dict[str, Any]:
    key = "A key of this node. On loopback none is asked for, and one that is sent ignored, but with `api.local_key`."
    return {
        "key": {"type": "http", "scheme": "bearer", "description": key},
        "anthropicKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": key},
        "adminToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "The token in `admin.token` of the node's home. The control socket asks for none.",
        },
    }


def _shapes(endpoint: Endpoint) -> list[Shape | None]:
    return [endpoint.answer, endpoint.event, *(shape for _, shape in endpoint.also)]
