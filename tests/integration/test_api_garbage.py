"""What no client should send, to every endpoint that the application has: a new one is covered by being there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2
import pytest
import trio

from meshnode.api.app import create_app
from meshnode.api.openapi.document import document
from meshnode.api.openapi.table import ENDPOINTS
from meshnode.config import ApiSettings
from tests.kit.api import ADMIN_TOKEN, CHAT, Api, Scripted, read_until, spoken
from tests.kit.batches import batch_api

UPLOAD: Final = "/v1/files"
"""The one call whose body is not JSON; tests/unit/api/batches has its garbage."""
MOST_BODY: Final = 1 << 16
OWNER: Final = {"authorization": f"Bearer {ADMIN_TOKEN}"}
CHUNKED: Final = (
    "Content-Type: application/json", "Transfer-Encoding: chunked", f"Authorization: {OWNER['authorization']}",
)  # fmt: skip
JSON: Final = {"content-type": "application/json"}
ANTHROPICS: Final = re.compile(r"/v1/messages(/|$)|/(v1/models|openai)/(.*/)?messages(/count_tokens)?$", re.DOTALL)
"""Paths that Anthropic's clients ask."""
INNARDS: Final = ("Traceback", "site-packages", "/home/", "msgspec", "quart", "werkzeug", "Exception", "object at 0x")
"""Words of what is inside, which nobody outside should read."""

GARBAGE: Final = {
    "nothing": b"",
    "spaces": b" " * 60_000,
    "no JSON": b"{messages: 'x'}",
    "cut off": b'{"messages": [{"role": "us',
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "depth 65": b'{"messages": ' + b"[" * 64 + b"]" * 64 + b"}",
    "depth of thousands": b'{"messages": ' + b"[" * 30_000,
    "NaN": b'{"temperature": NaN}',
    "1e999": b'{"temperature": 1e999}',
    "-Infinity": b'{"seed": -Infinity}',
    "a number of thousands of digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "twice": b'{"model": "a", "model": "b"}',
    "twice inside": b'{"messages": [{"role": "user", "role": "system", "content": "x"}]}',
    "half a surrogate pair": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "half a pair as a name": b'{"\\udfff": 1}',
    "Latin-1": b'{"user": "\xe9"}',
    "UTF-16": '{"model": "x"}'.encode("utf-16"),
    "two objects": b"{} {}",
    "a byte order mark": b"\xef\xbb\xbf{}",
}
ODD_IDS: Final = (
    "..", "../..", "a/b", "/", "%", "\0", "\n", "'; DROP TABLE sealed;--", "x" * 10_000, "💩", "{id}", "*", " ",
    "..%2f..%2fetc%2fpasswd", "\x7f", "ÿ",
)  # fmt: skip
ODD_QUERIES: Final = (
    {"limit": "0"}, {"limit": "-1"}, {"limit": "101x"}, {"limit": ""}, {"limit": "9" * 400}, {"limit": "1e3"},
    {"limit": "²"}, {"after": "nobody"}, {"after": "\0"}, {"after": "x" * 10_000}, {"after": ""}, {"order": "sideways"},
    {"starting_after": "-1", "stream": "true"}, {"stream": "maybe"}, {"include": "everything"}, {"version": "x"},
    {"metadata[" + "x" * 99 + "]": "y"}, {"before": "x", "after": "y"},
)  # fmt: skip


class Route(NamedTuple):
    """One way in: the rule of the application, and a path that it takes."""

    method: str
    rule: str
    arguments: tuple[str, ...]

    def path(self, value: str = "x") -> str:
        """The rule with this in the place of each of its arguments."""
        path = self.rule
        for name in self.arguments:
            for written in (f"<{name}>", f"<path:{name}>"):
                path = path.replace(written, quote(value, safe=""))
        return path


@asynccontextmanager
async def attacked() -> AsyncIterator[tuple[Api, list[Route], httpx2.AsyncClient]]:
    """The API with all it can keep, what leads into it, and its owner as a client."""
    settings = ApiSettings(address="127.0.0.1:0", max_body=MOST_BODY)
    async with batch_api(Scripted(spoken("Hello")), settings=settings) as api, api.client() as client:
        client.headers.update(OWNER)
        yield api, routes(api), client
        answer = await client.post("/v1/chat/completions", json=CHAT)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello", "the node is not as it was"
        assert api.scripted.inside == 0


_FOUND: list[Route] = []


def routes(api: Api) -> list[Route]:
    """All there are; the same in every test."""
    if not _FOUND:
        for rule in create_app(api.context).url_map.iter_rules():
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                _FOUND.append(Route(method, rule.rule, tuple(sorted(rule.arguments))))
        _FOUND.sort()
    return _FOUND


@cache
def reading() -> frozenset[str]:
    """The paths whose POST reads a body of JSON, as the document tells it."""
    paths = document(ENDPOINTS, version="0")["paths"]
    return frozenset(
        path.translate(str.maketrans("{}", "<>")).replace("_>", ">")
        for path, methods in paths.items()
        if JSON["content-type"] in methods.get("post", {}).get("requestBody", {}).get("content", {})
    )


def as_documented(route: Route) -> str:
    """The route's rule without the kinds of its arguments."""
    return route.rule.replace("<path:", "<").replace("_>", ">")


def check_refusal(answer: httpx2.Response, status: int | None = None) -> None:
    """Fails unless this is an honest error of the client's, in the shape of its dialect, that says nothing of us."""
    path = answer.request.url.path
    said = f"{answer.request.method} {path[:80]}: {answer.status_code} {answer.text[:300]}"
    assert status in (None, answer.status_code), said
    assert 400 <= answer.status_code < 500, said
    check_envelope(path, answer.json(), said)
    assert not [word for word in INNARDS if word in answer.text], said
    assert len(answer.content) < 2048, said
    assert answer.headers["x-request-id"], said
    assert answer.headers["x-should-retry"] in ("true", "false"), said


def check_envelope(path: str, told: dict[str, Any], said: str) -> None:
    """Fails unless an error is in the shape of the path's dialect."""
    if ANTHROPICS.match(path):
        assert told.keys() == {"type", "error", "request_id"}, said
        assert told["error"].keys() == {"type", "message"}, said
        return
    assert told.keys() == {"error"}, said
    assert told["error"].keys() == {"message", "type", "param", "code"}, said
    assert all(told["error"][name] for name in ("message", "type", "code")), said


@pytest.mark.parametrize("kind", GARBAGE)
async def test_a_body_that_is_no_json_is_refused_by_every_endpoint_that_reads_one(kind: str) -> None:
    async with attacked() as (api, found, client):
        refused = set()
        for route in found:
            if route.method != "POST" or route.rule == UPLOAD:
                continue
            answer = await client.post(route.path(), content=GARBAGE[kind], headers=JSON)
            if as_documented(route) in reading():
                check_refusal(answer, 400)
                refused.add(as_documented(route))
            elif answer.status_code != 200:
                check_refusal(answer)
        assert refused == reading()
        assert api.scripted.requests == []


async def test_a_body_over_the_limit_is_refused_before_it_is_read_or_once_it_is_too_long() -> None:
    async with attacked() as (api, found, client):
        for route in found:
            if as_documented(route) not in reading() or route.method != "POST":
                continue
            check_refusal(await client.post(route.path(), content=b" " * (MOST_BODY + 1), headers=JSON), 413)
            async with api.raw() as stream:
                await stream.send_all(api.head("POST", route.path(), *CHUNKED))
                with trio.fail_after(10):
                    for _ in range(3):
                        await stream.send_all(b"%x\r\n%b\r\n" % (MOST_BODY // 2, b" " * (MOST_BODY // 2)))
                    assert b" 413 " in await read_until(stream, b"\r\n\r\n"), route


async def test_a_body_of_another_kind_or_from_another_site_is_refused() -> None:
    async with attacked() as (_, found, client):
        for route in found:
            if route.method != "POST":
                continue
            for strange in ({"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}):
                check_refusal(await client.post(route.path(), content=b"{}", headers=JSON | strange), 403)
            for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json2", ""):
                answer = await client.post(route.path(), content=b"{}", headers={"content-type": kind})
                check_refusal(answer, 415)


async def test_an_id_that_is_none_is_an_honest_refusal_everywhere() -> None:
    async with attacked() as (_, found, client):
        for route in found:
            if not route.arguments:
                continue
            for value in ODD_IDS:
                content = json.dumps(CHAT).encode() if route.method == "POST" else None
                answer = await client.request(route.method, route.path(value), content=content, headers=JSON)
                if answer.status_code != 200:
                    check_refusal(answer)


async def test_odd_pages_are_refused_by_name_or_empty() -> None:
    async with attacked() as (_, found, client):
        for route in found:
            if route.method != "GET":
                continue
            for query in ODD_QUERIES:
                answer = await client.get(route.path(), params=query)
                if answer.status_code != 200:
                    check_refusal(answer)
