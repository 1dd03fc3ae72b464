"""``/docs``, ``/docs/{page}``, the same with ``.md``, ``/llms.txt``, ``/llms-full.txt`` and ``/openapi.json``.

All of it is made when it is first asked for, in a thread: it takes a moment in which answers under way must not stand
still, and most starts never need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import trio
from quart import Blueprint, Response, request

from meshnode.api.context import NodeFacts
from meshnode.api.docs import book
from meshnode.api.docs.html import rendered
from meshnode.api.docs.reference import reference
from meshnode.api.docs.tables import Tables
from meshnode.api.openapi.document import document
from meshnode.api.openapi.table import ENDPOINTS
from meshnode.api.pages import Page, page_of, sent
from meshnode.errors import NotFound

_MARKDOWN: Final = "text/markdown; charset=utf-8"
_HTML: Final = "text/html; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"


def docs(facts: NodeFacts) -> Blueprint:
    """The endpoints; open to whoever may knock, as they say nothing of anybody."""
    routes = Blueprint("docs", __name__)
    shelf = _Shelf(lambda: everything(facts.version, _place(facts)))

    @routes.get("/docs")
    @routes.get("/docs.md", endpoint="markdown")
    @routes.get("/llms.txt", endpoint="llms")
    @routes.get("/llms-full.txt", endpoint="llms_full")
    @routes.get("/openapi.json", endpoint="openapi")
    @routes.get("/docs/<page>", endpoint="page")
    async def any_page(page: str = "") -> Response:
        found = (await shelf.pages()).get(request.path)
        if found is None:
            raise NotFound("there is no such page.", hint="The list of pages is at /docs.")
        return sent(found)

    return routes


class _Shelf:
    """The pages, made once."""

    def __init__(self, make: Callable[[], Mapping[str, Page]]) -> None:
        self._make = make
        self._made: Mapping[str, Page] | None = None
        self._making = trio.Lock()

    async def pages(self) -> Mapping[str, Page]:
        """By path."""
        async with self._making:
            if self._made is None:
                self._made = await trio.to_thread.run_sync(self._make)
            return self._made


def everything(version: str, place: str = book.PLACE) -> dict[str, Page]:
    """Every page of the documentation by its path, as it is sent. ``place`` is the node's address in the examples."""
    described = document(ENDPOINTS, version=version)
    pages = book.load(Tables(ENDPOINTS).all(), reference(described), place=place)
    found = {
        "/openapi.json": page_of(msgspec.json.encode(described), "application/json"),
        "/llms.txt": page_of(book.llms(list(pages.values()), place=place).encode(), _TEXT),
        "/llms-full.txt": page_of(book.llms_full(list(pages.values())).encode(), _TEXT),
    }
    for each in pages.values():
        found[each.path] = page_of(rendered(each, pages).encode(), _HTML)
        found[f"{each.path}.md"] = page_of(each.text.encode(), _MARKDOWN)
    return found


def _place(facts: NodeFacts) -> str:
    return next((url.removesuffix("/v1") for url in facts.api_urls()), book.PLACE)
