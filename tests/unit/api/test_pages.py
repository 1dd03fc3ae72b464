"""The chat page's files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshnode.api.pages import CSP, load_pages
from tests.kit.api import running_api


async def test_the_page_is_served_under_its_policy() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == CSP
        for path in re.findall(r'(?:src|href)="(/console/[^"]+)"', answer.text):
            assert (await client.get(path)).status_code == 200, path


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in CSP
    assert "unsafe" not in CSP


async def test_a_page_that_did_not_change_is_not_sent_again() -> None:
    async with running_api() as api, api.client() as client:
        first = await client.get("/")
        again = await client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "..%2fapp.py", "%2e%2e%2fapp.py", "index.html%00.js", ""])
async def test_nothing_else_is_served(name: str) -> None:
    async with running_api() as api, api.client() as client:
        assert (await client.get(f"/console/{name}")).status_code == 404


def test_only_files_of_known_types_are_loaded(tmp_path: Path) -> None:
    for name in ("a.js", "b.py", ".hidden.js", "notes.md", "c.min.js"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.js").mkdir()
    assert set(load_pages(tmp_path)) == {"a.js", "c.min.js"}
