"""The HTTP application: one guard before everything, a few rooms of endpoints, one way to answer errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as HttpMethodNotAllowed

from meshnode.api import errors
from meshnode.api.admin import admin
from meshnode.api.asgi import Connection, current, sent_headers
from meshnode.api.batches.routes import batches
from meshnode.api.catalog import catalog
from meshnode.api.compare import compare
from meshnode.api.context import ApiContext
from meshnode.api.dialects import AT_ROOT, CHAT, DIALECTS
from meshnode.api.docs.routes import docs
from meshnode.api.explain import explain
from meshnode.api.generation import Dialect, answer
from meshnode.api.guard import Knock, Policy, answer_headers, judge
from meshnode.api.history import history
from meshnode.api.jobs import jobs
from meshnode.api.mesh import mesh
from meshnode.api.models import models
from meshnode.api.pages import load_pages, pages
from meshnode.api.responses.routes import responses
from meshnode.api.sessions import sessions
from meshnode.api.sse import encode
from meshnode.api.status import status
from meshnode.api.stored_chats import stored_chats
from meshnode.api.templates import templates
from meshnode.api.tls import certificate_names
from meshnode.api.voice import ANTHROPIC, Voice, voice_of
from meshnode.errors import BodyTooLarge, InternalFault, MalformedBody, MeshnodeError, MethodNotAllowed, NotFound

BODY_TIMEOUT_S: Final = 60
"""Seconds a client may take to send its body, once the headers are here."""

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Application(QuartTrio):
    """Quart on trio with our request handling."""

    asgi_http_class = Connection


def create_app(context: ApiContext) -> QuartTrio:
    """The application over a running node's parts. Reads the console's files and the certificate; opens nothing."""
    app = Application("meshnode.api", static_folder=None, template_folder=None)
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]  # as written is as people read it
    app.config["MAX_CONTENT_LENGTH"] = context.settings.max_body
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    _guard(app, context)
    _errors(app, context)
    for room in (models, status, catalog, admin, mesh, explain, templates, history, sessions, compare, responses):
        app.register_blueprint(room(context))
    app.register_blueprint(jobs(context, {dialect.name: dialect for dialect in DIALECTS.values()}))
    app.register_blueprint(stored_chats(context, CHAT))
    app.register_blueprint(pages(load_pages()))
    app.register_blueprint(batches(context, [f"/v1/{path}" for path in DIALECTS]))
    app.register_blueprint(docs(context.facts))

    for path, dialect in {**DIALECTS, **AT_ROOT}.items():
        _route(app, context, path, dialect, at_root=path in AT_ROOT)
    return app


def _route(app: QuartTrio, context: ApiContext, path: str, dialect: Dialect, *, at_root: bool = False) -> None:
    """A dialect at its own path, with the model in the path, and where Azure's clients look for it."""

    @app.post(f"/v1/{path}", endpoint=path)
    async def plain() -> Response:
        return await answer(context, dialect)

    if at_root:
        app.post(f"/{path}", endpoint=f"{path} at the root")(plain)

    @app.post(f"/v1/models/<path:model>/{path}", endpoint=f"{path} of a model")
    @app.post(f"/openai/deployments/<path:model>/{path}", endpoint=f"{path} of a deployment")
    async def of_model(model: str) -> Response:
        return await answer(context, dialect, model=model)


def _guard(app: QuartTrio, context: ApiContext) -> None:
    policy = Policy(
        origins=frozenset(origin.rstrip("/").lower() for origin in context.settings.cors_origins),
        hosts=context.hosts | {context.settings.host} | certificate_names(context.settings),
        keys=context.keys,
        admin_token=context.admin_token,
        local_key=context.settings.local_key,
    )

    @app.before_request
    async def decide() -> Response | None:
        handling = current()
        sent = request.headers.get("x-request-id", "")
        handling.request_id = sent if _SANE_ID.fullmatch(sent) else "req_" + context.entropy(12).hex()
        handling.admitted = judge(_knock(), policy)
        if request.path != request.scope["path"]:  # routing makes one slash of those that a path begins with
            raise _nothing_there()
        return Response(b"", status=204) if handling.admitted.preflight else None

    @app.after_request
    async def finish(response: Response) -> Response:
        handling = current()
        response.headers["x-request-id"] = handling.request_id
        if _voice() is ANTHROPIC:
            response.headers["request-id"] = handling.request_id  # where its SDKs look for it
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Vary"] = "Origin"
        response.headers.setdefault("Cache-Control", "no-store")
        if handling.admitted is not None:
            response.headers.update(answer_headers(handling.admitted))
        return response


def _knock() -> Knock:
    scope = request.scope
    local = scope.get("server")
    return Knock(
        method=request.method,
        path=request.path,  # the very one that routing goes by
        headers=sent_headers(),
        door=current().door,
        local=(local[0], local[1] or 0) if local else None,
        tls=scope["scheme"] == "https",
    )


def _errors(app: QuartTrio, context: ApiContext) -> None:
    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        return _response(errors.as_error(error, current().request_id))

    @app.errorhandler(MeshnodeError)
    async def ours(error: MeshnodeError) -> Response:
        return _response(error)

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        response = _response(_translate(error, context.settings.max_body))
        if isinstance(error, HttpMethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def _response(error: MeshnodeError) -> Response:
    told: Mapping[str, Any]
    if request.path.startswith("/api/"):
        told = errors.envelope(error, owner=current().principal is not None)
    else:
        told = _voice().envelope(error, current().request_id)
    body = encode(told)
    response = Response(body, status=error.status, content_type="application/json")
    response.headers.update(errors.headers(error))
    return response


def _voice() -> Voice:
    """That of the request at hand."""
    return voice_of(request.path, dict(sent_headers()))


def _nothing_there() -> NotFound:
    return NotFound("there is nothing at this path.", hint="The API is at /v1, the chat page at /.")


def _translate(error: HTTPException, max_body: int) -> MeshnodeError:
    """Werkzeug's exceptions as ours."""
    match error.code:
        case 404:
            return _nothing_there()
        case 405:
            return MethodNotAllowed(f"this path does not take {request.method}.")
        case 408:
            return MalformedBody(f"the body did not arrive within {BODY_TIMEOUT_S} s.")
        case 413:
            return BodyTooLarge(f"the body is larger than {max_body} bytes.", hint="Send less, or raise api.max_body.")
        case code if code is not None and 400 <= code < 500:
            return MalformedBody("the request cannot be read.")
        case _:
            return InternalFault("meshnode failed inside; this is a defect of it.")
