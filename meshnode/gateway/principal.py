"""Who asks: the owner of this machine, or the holder of a key. Pure."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from meshnode.domain import OWNER, CallerId
from meshnode.errors import Unauthorized
from meshnode.gateway.keys import KeyRing


class Door(enum.StrEnum):
    """Which way a connection came in."""

    CONTROL = "control"
    """The control socket; the peer's uid is checked, so it is the owner."""
    LOOPBACK = "loopback"
    """From this machine to this machine."""
    OUTSIDE = "outside"
    """From anywhere else."""


class Principal(NamedTuple):
    """Who asks, as the engine keys its prefix cache, and whether they may administer the node."""

    caller: CallerId
    admin: bool


def bearer(authorization: str | None) -> str | None:
    """The token of an ``Authorization: Bearer`` header; ``None`` where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key a client of the API sends: ``x-api-key`` (Anthropic's) goes before ``api-key`` (Azure's), and both before
    ``Authorization: Bearer``. Names in lower case."""
    named = headers.get("x-api-key", "").strip() or headers.get("api-key", "").strip()
    return named or bearer(headers.get("authorization"))


def user(door: Door, token: str | None, *, keys: KeyRing, admin_token: str, local_key: bool) -> Principal:
    """Who may generate. Raises Unauthorized.

    On loopback nobody needs a key and one that is sent is ignored, unless ``local_key`` closes that; from outside
    everybody needs one.
    """
    if door is Door.CONTROL:
        return Principal(OWNER, admin=True)
    if door is Door.LOOPBACK and not local_key:
        return Principal(OWNER, admin=False)
    if token is not None and _same(token, admin_token):
        return Principal(OWNER, admin=True)
    holder = keys.holder(token) if token is not None else None
    if holder is None:
        raise Unauthorized(
            "this API asks for a key." if token is None else "the key is not one of this node's.",
            hint="Send it as Authorization: Bearer KEY, or as x-api-key: KEY.",
        )
    return Principal(holder, admin=False)


def administrator(door: Door, token: str | None, *, admin_token: str) -> Principal:
    """Who may administer: whoever comes by the control socket or has the admin token. Raises Unauthorized."""
    if door is Door.CONTROL or (token is not None and _same(token, admin_token)):
        return Principal(OWNER, admin=True)
    raise Unauthorized(
        "this call asks for the admin token.",
        hint="It is in the file admin.token of the node's home; send it as Authorization: Bearer TOKEN.",
    )


def _same(token: str, expected: str) -> bool:
    return bool(expected) and hmac.compare_digest(token.encode(), expected.encode())
