"""Quart's HTTP connection, made ours: a nursery per request, the door it came by, and an answer whatever breaks.

Everything that works for a request runs in its nursery. When the client leaves, the server says ``http.disconnect``,
the nursery is cancelled, and with it the generation, whether it streams or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from quart import Quart, request
from quart_trio.asgi import TrioASGIHTTPConnection

from meshnode.api.errors import as_error, headers
from meshnode.api.guard import Admitted
from meshnode.api.sse import encode
from meshnode.api.voice import voice_of
from meshnode.domain import CallerId
from meshnode.errors import Unauthorized
from meshnode.gateway.principal import Door, Principal

STATE = "meshnode"
"""The key of :class:`Handling` in the ASGI scope's state."""
DOOR = "door"
"""The key under which the server puts the connection's :class:`Door` into the state."""


@dataclass
class Handling:
    """What is known of the request at hand beside its text."""

    nursery: trio.Nursery
    door: Door
    request_id: str = ""
    admitted: Admitted | None = None

    @property
    def principal(self) -> Principal | None:
        """Who asks, once the guard let them pass."""
        return self.admitted.principal if self.admitted is not None else None


def current() -> Handling:
    """The :class:`Handling` of the request at hand."""
    return cast(Handling, _state(request.scope)[STATE])


def principal() -> Principal:
    """Who asks by the request at hand. Raises Unauthorized where the path is open and no key was sent."""
    found = current().principal
    if found is None:
        raise Unauthorized("this call asks for a key.")
    return found


def caller() -> CallerId:
    """What is kept for whoever asks is kept under this name. Raises as :func:`principal`."""
    return principal().caller


def sent_headers() -> list[tuple[str, str]]:
    """The headers of the request at hand as they were sent, each as often; names in lower case."""
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.scope["headers"]]


async def body_of() -> bytes:
    """The body of the request at hand. Raises Quart's RequestEntityTooLarge and RequestTimeout."""
    data = await request.get_data()
    assert isinstance(data, bytes)
    return data


class Connection(TrioASGIHTTPConnection):
    """One request."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self._started = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle it; an error nobody caught is answered with 500 where no answer has begun."""

        async def sending(message: Any) -> None:
            self._started = True
            await send(message)

        try:
            await self._handle(receive, sending)
        except Exception as error:
            await self._last_resort(error, send)

    async def _handle(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if not self.scope["path"].startswith("/"):
            self.scope["path"] = "/" + self.scope["path"]
        async with trio.open_nursery() as nursery:
            state = _state(self.scope)
            state[STATE] = Handling(nursery, state.get(DOOR, Door.OUTSIDE))
            request = self._create_request_from_scope(send)
            nursery.start_soon(self.handle_messages, nursery, request, receive)
            nursery.start_soon(self.handle_request, nursery, request, send)

    async def _last_resort(self, error: Exception, send: ASGISendCallable) -> None:
        state = _state(self.scope)
        request_id = state[STATE].request_id if STATE in state else ""
        ours = as_error(error, request_id)
        if self._started:
            return
        named = dict.fromkeys(("x-request-id", "request-id"), request_id) if request_id else {}
        found = {"content-type": "application/json", **named, **headers(ours)}
        pairs = [(name.lower().encode(), value.encode()) for name, value in found.items()]
        await send({"type": "http.response.start", "status": ours.status, "headers": pairs})
        await send(
            {
                "type": "http.response.body",
                "body": encode(voice_of(self.scope["path"], {}).envelope(ours, request_id)),
                "more_body": False,
            }
        )


def _state(scope: Any) -> dict[str, Any]:
    return cast(dict[str, Any], scope.setdefault("state", {}))
