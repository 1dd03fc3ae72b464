"""The documentation as it is served; and what it tells people to type, typed."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio

from meshnode.api.docs.book import PLACE
from meshnode.api.docs.routes import everything
from meshnode.api.pages import CSP
from meshnode.events import EmbeddingResult, Finished, Started, Usage
from tests.kit.api import Scripted, Step, facts, running_api, spoken

PAGES = everything("0")
TYPES = {"/openapi.json": "application/json", "/llms.txt": "text/plain", "/llms-full.txt": "text/plain"}
VECTORS: list[Step] = [Started(2), EmbeddingResult(0, b"\0\0\x80?"), EmbeddingResult(1, b"\0\0\0@"), Finished(Usage(2))]


async def test_every_page_is_served_under_the_policy_of_pages() -> None:
    async with running_api() as api, api.client() as client:
        for path in PAGES:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            expected = TYPES.get(path, "text/markdown" if path.endswith(".md") else "text/html")
            assert answer.headers["content-type"].partition(";")[0] == expected
            assert answer.headers["content-security-policy"] == CSP


async def test_no_key_is_asked_for_and_an_unchanged_page_is_not_sent_again() -> None:
    async with running_api() as api, api.client() as client:
        first = await client.get("/docs/chat")
        again = await client.get("/docs/chat", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.head("/docs/chat")).content == b""


@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/", "/docs/chat.txt", "/docs/..%2fapp.py", "/docs/index"])
async def test_there_is_nothing_else(path: str) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_every_link_leads_somewhere() -> None:
    for path, page in PAGES.items():
        if page.content_type.startswith("text/html"):
            html = page.body.decode()
            anchors = set(re.findall(r'id="([^"]+)"', html))
            for link in re.findall(r'href="([^"]+)"', html):
                known = link in PAGES or link == "/" or link.startswith(("/console/", PLACE))
                assert known or link.removeprefix("#") in anchors, f"{path}: {link}"


async def test_the_examples_name_the_node_they_came_from() -> None:
    elsewhere = replace(facts(), api_urls=lambda: ["https://n.example/v1"])
    async with running_api(facts=elsewhere) as api, api.client() as client:
        text = (await client.get("/docs.md")).text
    assert "https://n.example/v1" in text
    assert PLACE not in text


# --- what people are told to type ------------------------------------------------------------------


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(page, text) of every block in a language."""
    for path, page in PAGES.items():
        if path.endswith(".md"):
            for text in re.findall(rf"^```{language}\n(.*?)^```", page.body.decode(), re.MULTILINE | re.DOTALL):
                yield path, text


def commands() -> list[tuple[str, list[str]]]:
    """Every curl command that goes to the node's port, as words."""
    found = []
    for path, text in blocks("sh"):
        for line in text.replace("\\\n", " ").split("\ncurl "):
            words = shlex.split(line.removeprefix("curl "), comments=True)
            url = next((word for word in words if word.startswith(PLACE)), None)
            if "curl" in text and url and "$(" not in line:
                found.append((path, [url, *words]))
    return found


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
async def test_a_curl_command_of_the_pages_is_answered(page: str, words: list[str]) -> None:
    path = words[0].removeprefix(PLACE)
    async with running_api(Scripted(VECTORS if "embeddings" in path else spoken("a"))) as api, api.client() as client:
        body = words[words.index("-d") + 1] if "-d" in words else None
        answer = await client.request(
            "POST" if body else "GET", path, content=body, headers={"content-type": "application/json"} if body else {}
        )
    assert answer.status_code in (200, 202), f"{page}: {answer.text}"


def scripts() -> list[tuple[str, str]]:
    """Python for OpenAI's own client."""
    return [(path, text) for path, text in blocks("python") if "from openai import" in text and "open(" not in text]


@pytest.mark.parametrize(("page", "script"), scripts(), ids=lambda value: value if value.startswith("/") else "")
async def test_a_script_of_the_pages_runs(page: str, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_api(Scripted(VECTORS if "embeddings" in script else spoken("Paris"))) as api:
        code = compile(script.replace(PLACE, api.url), page, "exec")
        await trio.to_thread.run_sync(exec, code, {})
    assert "Paris" in (said := capsys.readouterr().out) or "vectors" in said


def test_other_python_is_python_and_json_is_json() -> None:
    for page, text in blocks("python"):
        compile(text, page, "exec")
    for _, text in blocks("json"):
        json.loads(text)
    for _, text in blocks("toml"):
        assert tomllib.loads(text)
