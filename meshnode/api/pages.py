"""The chat page: the static files of ``api/console``, under a strict content security policy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from quart import Blueprint, Response, request

from meshnode.errors import NotFound

FOLDER: Final = Path(__file__).with_name("console")
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


class Page(NamedTuple):
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def load_pages(folder: Path = FOLDER) -> dict[str, Page]:
    """The files of the console by name. Reads them once: they are a few hundred kB and belong to the program."""
    found = {}
    for path in sorted(folder.glob("*")):
        if path.suffix in _TYPES and _NAME.fullmatch(path.name) and path.is_file():
            found[path.name] = page_of(path.read_bytes(), _TYPES[path.suffix])
    return found


def pages(files: Mapping[str, Page]) -> Blueprint:
    """``/`` and ``/console/{file}``."""
    routes = Blueprint("pages", __name__)

    @routes.get("/")
    async def index() -> Response:
        return _response(files, "index.html")

    @routes.get("/console/<name>")
    async def file(name: str) -> Response:
        return _response(files, name)

    return routes


def page_of(body: bytes, content_type: str) -> Page:
    """A page with the tag by which a browser asks whether it is still the same."""
    return Page(body, content_type, hashlib.sha256(body).hexdigest()[:16])


def _response(files: Mapping[str, Page], name: str) -> Response:
    page = files.get(name)
    if page is None:
        raise NotFound("there is no such page.", hint="The chat page is at /, the documentation at /docs.")
    return sent(page)


def sent(page: Page) -> Response:
    """The page, under the policy of all pages; only its tag where the browser has it already."""
    if request.if_none_match.contains(page.etag):
        response = Response(b"", status=304)
    else:
        response = Response(page.body, content_type=page.content_type)
    response.set_etag(page.etag)
    response.headers["Content-Security-Policy"] = CSP
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response
