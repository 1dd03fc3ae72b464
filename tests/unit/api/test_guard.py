"""Who may knock: the pure decision."""

from __future__ import annotations

import pytest

from meshnode.api.guard import Admitted, Knock, Policy, answer_headers, judge, own_hosts
from meshnode.domain import OWNER
from meshnode.errors import Forbidden, MalformedBody, MeshnodeError, Unauthorized, UnsupportedMediaType
from meshnode.gateway.keys import KeyRing, hash_of, new_key, parse_keys
from meshnode.gateway.principal import Door

KEY = new_key(bytes(32))
POLICY = Policy(
    origins=frozenset({"https://chat.example"}),
    hosts=frozenset({"node.example"}),
    keys=parse_keys(hash_of(KEY)),
    admin_token="token",
    local_key=False,
)


def knock(
    method: str = "GET",
    path: str = "/v1/models",
    door: Door = Door.LOOPBACK,
    *,
    host: str | None = "localhost:9337",
    tls: bool = False,
    local: tuple[str, int] | None = ("127.0.0.1", 9337),
    sent: dict[str, str] | None = None,
    **headers: str,
) -> Knock:
    named = [(name.replace("_", "-"), value) for name, value in (headers | (sent or {})).items()]
    return Knock(method, path, [*([("host", host)] if host else []), *named], door, local, tls)


@pytest.mark.parametrize(
    "host", ["localhost:9337", "LOCALHOST:9337", "127.0.0.1:9337", "[::1]:9337", "node.example:9337"]
)
def test_our_own_hosts_pass(host: str) -> None:
    judge(knock(host=host), POLICY)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.test",
        "localhost",
        "localhost:80",
        "localhost:9337.evil.test",
        "127.0.0.2:9337",
        "0.0.0.0:9337",
        "127.1:9337",
        "localhost.:9337",
        "localhost:9337, evil.test",
        "user@localhost:9337",
        "2130706433:9337",
    ],
)
def test_other_hosts_do_not(host: str | None) -> None:
    for path in ("/", "/health", "/v1/models", "/nothing"):
        with pytest.raises(Forbidden):
            judge(knock(path=path, host=host), POLICY)


def test_a_bare_host_passes_on_the_schemes_own_port_only() -> None:
    assert "localhost" in own_hosts(knock(local=("127.0.0.1", 80)), POLICY)
    assert "localhost" not in own_hosts(knock(local=("127.0.0.1", 443)), POLICY)
    assert "localhost" in own_hosts(knock(local=("127.0.0.1", 443), tls=True), POLICY)


def test_the_address_that_was_connected_to_is_a_host_of_ours() -> None:
    judge(knock(host="192.168.1.5:9337", local=("192.168.1.5", 9337)), POLICY)
    judge(knock(host="[fe80::1]:9337", local=("fe80::1", 9337)), POLICY)


@pytest.mark.parametrize("origin", ["http://localhost:9337", "http://127.0.0.1:9337", "http://[::1]:9337"])
def test_our_own_page_passes_and_needs_no_cors(origin: str) -> None:
    assert answer_headers(judge(knock(origin=origin, sec_fetch_site="same-origin"), POLICY)) == {}


def test_a_listed_origin_may_read_the_answer_without_credentials() -> None:
    headers = answer_headers(judge(knock(origin="https://chat.example", sec_fetch_site="cross-site"), POLICY))
    assert headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.test",
        "http://localhost:9338",
        "https://localhost:9337",
        "http://localhost",
        "https://chat.example.evil.test",
        "https://chat.example:444",
        "http://chat.example",
        "file://",
        "*",
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/api/status"])
def test_other_origins_do_not_pass(origin: str, path: str) -> None:
    with pytest.raises(Forbidden):
        judge(knock(path=path, origin=origin), POLICY)


def test_cross_site_without_an_origin_does_not_pass() -> None:
    with pytest.raises(Forbidden):
        judge(knock(path="/", sec_fetch_site="cross-site"), POLICY)
    judge(knock(path="/", sec_fetch_site="none"), POLICY)


def test_a_preflight_needs_no_key_and_grants_no_more_than_is_needed() -> None:
    asked = knock("OPTIONS", "/api/models", origin="https://chat.example", access_control_request_method="POST")
    admitted = judge(asked, POLICY)
    assert admitted.preflight
    assert admitted.principal is None
    assert "*" not in str(answer_headers(admitted))
    with pytest.raises(Unauthorized):
        judge(knock("OPTIONS", "/api/models", origin="https://chat.example"), POLICY)


SDK_HEADERS = (
    "x-api-key", "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "content-type",
    "authorization", "openai-organization", "openai-project", "x-session-id", "x-request-id",
    *(f"x-stainless-{name}" for name in ("lang", "os", "arch", "runtime", "runtime-version", "package-version",
      "retry-count", "timeout", "helper-method", "of-tomorrow")),
)  # fmt: skip


def test_a_preflight_allows_what_the_sdks_send_in_a_browser_and_nothing_else() -> None:
    wanted = ", ".join((*SDK_HEADERS, "cookie", "x-stainless-", "x-stainless-a\x0bb", "*"))
    asked = knock(
        "OPTIONS", "/v1/messages", origin="https://chat.example", access_control_request_method="POST",
        access_control_request_headers=wanted,
    )  # fmt: skip
    allowed = answer_headers(judge(asked, POLICY))["Access-Control-Allow-Headers"].split(", ")
    assert set(SDK_HEADERS) <= set(allowed)
    assert not {"cookie", "*", "x-stainless-"} & set(allowed)
    assert len(allowed) == len(set(allowed))


def test_a_listed_page_may_read_every_header_of_ours() -> None:
    exposed = answer_headers(judge(knock(origin="https://chat.example"), POLICY))["Access-Control-Expose-Headers"]
    for name in ("request-id", "x-mesh-receipt", "x-mesh-cost", "x-ratelimit-remaining-tokens", "x-should-retry"):
        assert name in exposed.split(", ")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_passes(kind: str) -> None:
    judge(knock("POST", content_type=kind, content_length="2"), POLICY)


@pytest.mark.parametrize(
    "headers",
    [
        {"content_length": "2"},
        {"content_type": "text/plain", "content_length": "2"},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded", "content_length": "2"},
        {"content_type": "multipart/form-data; boundary=x", "transfer_encoding": "chunked"},
        {"content_type": "application/json-patch+json", "content_length": "2"},
        {"content_type": "application/json; charset=latin-1", "content_length": "2"},
        {"content_type": "text/plain; application/json", "content_length": "2"},
    ],
)
def test_nothing_but_json_passes(headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMediaType):
        judge(knock("POST", sent=headers), POLICY)


def test_a_post_without_a_body_needs_no_type() -> None:
    judge(knock("POST", content_length="0"), POLICY)
    judge(knock("GET", content_type="text/plain"), POLICY)


def test_a_header_that_decides_may_not_be_sent_twice() -> None:
    for name in ("host", "origin", "content-type", "authorization", "x-api-key", "sec-fetch-site"):
        twice = knock()._replace(headers=[("host", "localhost:9337"), (name, "a"), (name, "b")])
        with pytest.raises(MalformedBody):
            judge(twice, POLICY)


@pytest.mark.parametrize(
    ("door", "path", "token", "admin"),
    [
        (Door.CONTROL, "/api/models", None, True),
        (Door.CONTROL, "/v1/models", None, True),
        (Door.LOOPBACK, "/api/models", "token", True),
        (Door.LOOPBACK, "/v1/models", None, False),
        (Door.LOOPBACK, "/v1/models", "anything", False),
        (Door.OUTSIDE, "/v1/models", "token", True),
    ],
)
def test_who_passes_as_the_owner(door: Door, path: str, token: str | None, admin: bool) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    principal = judge(knock(path=path, door=door, sent=headers), POLICY).principal
    assert principal is not None
    assert (principal.caller, principal.admin) == (OWNER, admin)


def test_a_key_holder_from_outside_is_not_the_owner() -> None:
    principal = judge(knock(door=Door.OUTSIDE, authorization=f"Bearer {KEY}"), POLICY).principal
    assert principal is not None
    assert principal.caller.startswith("key:")
    assert not principal.admin


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_a_key_under_another_name_goes_before_the_bearer(name: str) -> None:
    principal = judge(knock(door=Door.OUTSIDE, sent={name: KEY, "authorization": "Bearer junk"}), POLICY).principal
    assert principal is not None
    assert principal.caller.startswith("key:")
    with pytest.raises(Unauthorized):
        judge(knock(door=Door.OUTSIDE, sent={name: "junk", "authorization": f"Bearer {KEY}"}), POLICY)


def test_junk_keys_are_ignored_on_loopback_and_open_no_administration() -> None:
    junk = {"x-api-key": "junk", "authorization": "Bearer junk"}
    principal = judge(knock(sent=junk), POLICY).principal
    assert principal is not None
    assert (principal.caller, principal.admin) == (OWNER, False)
    with pytest.raises(Unauthorized):
        judge(knock(path="/api/models", sent={"x-api-key": "token"}), POLICY)
    judge(knock(path="/api/models", sent={"x-api-key": "junk", "authorization": "Bearer token"}), POLICY)


@pytest.mark.parametrize(
    ("door", "path", "token"),
    [
        (Door.LOOPBACK, "/api/models", None),
        (Door.LOOPBACK, "/api/models", "wrong"),
        (Door.LOOPBACK, "/api", None),
        (Door.LOOPBACK, "/api/models", KEY),
        (Door.LOOPBACK, "/api/status/x", None),
        (Door.OUTSIDE, "/v1/models", None),
        (Door.OUTSIDE, "/v1/models", "wrong"),
        (Door.OUTSIDE, "/api/stop", KEY),
        (Door.OUTSIDE, "/v1", None),
    ],
)
def test_who_does_not_pass(door: Door, path: str, token: str | None) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with pytest.raises(Unauthorized):
        judge(knock(path=path, door=door, sent=headers), POLICY)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/api/status", "/"])
def test_status_is_open_to_whoever_may_knock(path: str) -> None:
    assert judge(knock(path=path, door=Door.OUTSIDE), POLICY) == Admitted(None, None)


def test_local_key_closes_v1_and_an_empty_admin_token_opens_nothing() -> None:
    closed = POLICY._replace(local_key=True, keys=KeyRing(), admin_token="")
    with pytest.raises(Unauthorized):
        judge(knock(), closed)
    for sent in ("Bearer ", "Bearer x", "Basic x"):
        with pytest.raises(Unauthorized):
            judge(knock(authorization=sent), closed)


LISTED = "https://chat.example"
UPLOAD = {"content-type": "multipart/form-data; boundary=x", "content-length": "9"}


@pytest.mark.parametrize(
    "more", [{}, {"origin": LISTED}, {"origin": LISTED, "sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"}]
)
def test_a_file_may_be_sent_by_programs_and_by_listed_pages(more: dict[str, str]) -> None:
    judge(knock(method="POST", path="/v1/files", sent=UPLOAD | more), POLICY)


@pytest.mark.parametrize(
    ("method", "path", "more", "kind"),
    [
        ("POST", "/v1/files", {"origin": LISTED, "sec-fetch-site": "cross-site"}, Forbidden),
        ("POST", "/v1/files", {"origin": "https://evil.test"}, Forbidden),
        ("POST", "/v1/files", {"origin": "null"}, Forbidden),
        ("POST", "/v1/files", {"sec-fetch-site": "cross-site"}, Forbidden),
        ("POST", "/v1/files/", {}, UnsupportedMediaType),
        ("POST", "/v1/files/x", {}, UnsupportedMediaType),
        ("POST", "/v1/batches", {}, UnsupportedMediaType),
        ("POST", "/v1/chat/completions", {}, UnsupportedMediaType),
        ("POST", "/v1/files", {"content-type": "multipart/mixed; boundary=x"}, UnsupportedMediaType),
        ("POST", "/v1/files", {"content-type": "text/plain"}, UnsupportedMediaType),
    ],
)
def test_only_one_path_takes_a_file_and_never_from_another_site(
    method: str, path: str, more: dict[str, str], kind: type[MeshnodeError]
) -> None:
    with pytest.raises(kind):
        judge(knock(method=method, path=path, sent=UPLOAD | more), POLICY)


def test_the_control_socket_has_no_host_but_keeps_the_other_rules() -> None:
    judge(knock(door=Door.CONTROL, host="whatever"), POLICY)
    with pytest.raises(MeshnodeError):
        judge(knock(door=Door.CONTROL, origin="https://evil.test"), POLICY)
