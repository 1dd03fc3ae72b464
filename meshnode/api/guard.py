"""Who may knock at all: decided from method, path, headers and door before anything else runs. Pure.

A web page can make its visitor's browser talk to loopback. What keeps it out, each by itself (threats 1-4):

- ``Host`` must be one of ours, always, so that a name an attacker points at 127.0.0.1 (DNS rebinding) gets nothing;
- ``Origin``, where sent, must be this node's own page or a listed one, never ``null``;
- ``Sec-Fetch-Site: cross-site`` passes only with a listed Origin;
- a body must be ``application/json``, which a page cannot send without asking first (a preflight); one path alone
  takes an upload, which a page could send, and that never from another site, listed or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from meshnode.errors import Forbidden, MalformedBody, UnsupportedMediaType
from meshnode.gateway.keys import KeyRing
from meshnode.gateway.principal import Door, Principal, administrator, bearer, key_of, user

LOOPBACK_HOSTS: Final = ("127.0.0.1", "[::1]", "localhost")
OPEN_PATHS: Final = frozenset({"/health", "/metrics", "/api/status", "/api/catalog"})
"""Answered without a key: they say how the node fares and nothing of anybody."""
UPLOAD: Final = ("POST", "/v1/files")
"""The one call whose body is ``multipart/form-data``."""
KEYED_PATHS: Final = frozenset({"/tokenize", "/detokenize", "/apply-template", "/rerank", "/reranking"})
"""Where llama.cpp's clients look for what others have below ``/v1``: the same keys open them."""
METHODS: Final = "GET, POST, DELETE"
HEADERS: Final = (
    "authorization", "content-type", "x-request-id", "x-session-id", "x-api-key", "api-key", "idempotency-key",
    "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "x-claude-code-session-id",
    "openai-organization", "openai-project", "openai-beta", "x-client-request-id", "user-agent",
)  # fmt: skip
"""What a listed page may send: the headers of this API and those that the SDKs put on by themselves."""
_STAINLESS: Final = re.compile(r"x-stainless-[a-z-]{1,48}")
"""The SDKs' own headers, of which each version has others."""
EXPOSED: Final = (
    "x-request-id", "request-id", "location", "allow", "retry-after", "retry-after-ms", "x-should-retry",
    "x-mesh-node", "x-mesh-model", "x-mesh-route", "x-mesh-queue-ms", "x-mesh-overhead-ms", "x-mesh-transform",
    "x-mesh-warning",
    "x-mesh-receipt", "x-mesh-cost", "x-mesh-cost-upstream", "x-mesh-margin",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
)  # fmt: skip
"""What a listed page may read of an answer's head."""


class Knock(NamedTuple):
    """What is known of a request before it is read. Header names in lower case; ``local`` is our own address."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    door: Door
    local: tuple[str, int] | None
    tls: bool


class Policy(NamedTuple):
    """What the owner set. ``hosts`` are names besides loopback's, without a port."""

    origins: frozenset[str]
    hosts: frozenset[str]
    keys: KeyRing
    admin_token: str
    local_key: bool


class Admitted(NamedTuple):
    """May pass. ``origin`` is set when the page there may read the answer; ``preflight``: that was all it asked, and
    ``sends`` are the headers it may send."""

    principal: Principal | None
    origin: str | None
    preflight: bool = False
    sends: tuple[str, ...] = ()


def judge(knock: Knock, policy: Policy) -> Admitted:
    """Who may pass, and as whom. Raises Forbidden, Unauthorized, UnsupportedMediaType or MalformedBody."""
    headers = _single(knock.headers)
    if not knock.path.startswith("/"):
        raise MalformedBody("the request's target is not a path of this server.")
    if knock.door is not Door.CONTROL:
        _check_host(headers.get("host"), knock, policy)
    origin = _checked_origin(headers, knock, policy)
    if knock.method == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
        asked = headers.get("access-control-request-headers", "").lower().replace(" ", "").split(",")
        extra = dict.fromkeys(name for name in asked if _STAINLESS.fullmatch(name))
        return Admitted(None, origin, preflight=True, sends=(*HEADERS, *extra))
    _check_content_type(headers, knock)
    return Admitted(_principal(headers, knock, policy), origin)


def answer_headers(admitted: Admitted) -> dict[str, str]:
    """CORS headers of the answer; none unless a page asked. Credentials are never allowed."""
    if admitted.origin is None:
        return {}
    allowed = {"Access-Control-Allow-Origin": admitted.origin, "Access-Control-Expose-Headers": ", ".join(EXPOSED)}
    if admitted.preflight:
        allowed |= {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ", ".join(admitted.sends),
            "Access-Control-Allow-Private-Network": "true",
            "Access-Control-Max-Age": "600",
        }
    return allowed


def own_hosts(knock: Knock, policy: Policy) -> frozenset[str]:
    """The values of ``Host`` that mean this server: names with its port, or without where it is the scheme's own."""
    address, port = knock.local or ("127.0.0.1", 0)
    names = {*LOOPBACK_HOSTS, _bracketed(address), *(_bracketed(host.lower()) for host in policy.hosts)}
    found = {f"{name}:{port}" for name in names}
    return frozenset(found | names if port == (443 if knock.tls else 80) else found)


def _check_host(host: str | None, knock: Knock, policy: Policy) -> None:
    if host is None or host.lower() not in own_hosts(knock, policy):
        raise Forbidden(
            "the Host header names another server.",
            hint="Address this node as localhost, 127.0.0.1 or [::1] with its port.",
        )


def _checked_origin(headers: Mapping[str, str], knock: Knock, policy: Policy) -> str | None:
    """The listed Origin; ``None`` where none was sent or it is this node's own page."""
    origin = headers.get("origin")
    scheme = "https" if knock.tls else "http"
    own = origin is not None and origin.lower() in {f"{scheme}://{host}" for host in own_hosts(knock, policy)}
    listed = origin is not None and origin in policy.origins
    if origin is not None and not own and not listed:
        raise Forbidden(
            "pages of that origin may not call this node.",
            hint="Its owner can list it: meshnode up --cors-origin ORIGIN.",
        )
    if headers.get("sec-fetch-site", "").lower() == "cross-site" and not listed:
        raise Forbidden("another site's page may not call this node.", hint="Open this node's address yourself.")
    return origin if listed else None


def _check_content_type(headers: Mapping[str, str], knock: Knock) -> None:
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if not has_body and not kind:
        return
    if knock.method in ("GET", "HEAD", "OPTIONS") and not has_body:
        return
    if kind.strip().lower() == "multipart/form-data" and (knock.method, knock.path) == UPLOAD:
        if headers.get("sec-fetch-site", "").lower() == "cross-site":
            raise Forbidden("another site's page may not send files to this node.")
        return
    if kind.strip().lower() != "application/json":
        raise UnsupportedMediaType("the body must be JSON.", hint="Send Content-Type: application/json.")
    charset = re.search(r'charset\s*=\s*"?([^\s;"]+)', parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("the body must be UTF-8.", hint="Send Content-Type: application/json.")


def _principal(headers: Mapping[str, str], knock: Knock, policy: Policy) -> Principal | None:
    path = knock.path
    if path in OPEN_PATHS:
        return None
    if path == "/api" or path.startswith("/api/"):
        token = bearer(headers.get("authorization"))
        return administrator(knock.door, token, admin_token=policy.admin_token)
    if path in KEYED_PATHS or path == "/v1" or path.startswith(("/v1/", "/openai/")):
        token = key_of(headers)
        return user(knock.door, token, keys=policy.keys, admin_token=policy.admin_token, local_key=policy.local_key)
    return None


def _single(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name. Raises MalformedBody where one that decides something is sent twice."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name in found and name in _DECIDING:
            raise MalformedBody(f"the header {name} is sent twice.")
        found[name] = value.strip()
    return found


def _bracketed(host: str) -> str:
    """A host as ``Host`` and URLs have it; IPv6 in brackets, in its shortest form."""
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    return f"[{address}]" if address.version == 6 else str(address)


_DECIDING: Final = frozenset({
    "host", "origin", "content-type", "content-length", "authorization", "x-api-key", "api-key", "sec-fetch-site",
})  # fmt: skip
