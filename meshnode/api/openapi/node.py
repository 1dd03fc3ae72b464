"""The endpoints about the node itself: how it fares, its page, its documentation."""

from __future__ import annotations

from typing import Final

from meshnode.api.openapi import answers
from meshnode.api.openapi.endpoint import STRING, Access, Endpoint, Parameter
from meshnode.client_answers import Catalog
from meshnode.client_records import Status


def _page(path: str, name: str, summary: str, media: str, *, refused: tuple[int, ...] = ()) -> Endpoint:
    return Endpoint(
        "GET", path, name, "Documentation", summary, access=Access.OPEN, answer=STRING, media=media, refused=refused
    )


NODE: Final = (
    Endpoint(
        "GET",
        "/health",
        "health",
        "Node",
        "Whether a model can answer",
        "200 when one can, here or at a peer; 503, with what is missing, while the node stops or nothing can answer.",
        access=Access.OPEN,
        answer=answers.Health,
        also=((503, answers.Health),),
    ),
    Endpoint(
        "GET",
        "/metrics",
        "metrics",
        "Node",
        "Counters in Prometheus' text format",
        access=Access.OPEN,
        answer=STRING,
        media="text/plain",
    ),
    Endpoint("GET", "/api/status", "status", "Node", "The node at a glance", access=Access.OPEN, answer=Status),
    Endpoint(
        "GET",
        "/api/catalog",
        "catalog",
        "Node",
        "What can be asked of this node now, here and in its mesh",
        "It counts nodes and names none; speeds are medians of the newest answers.",
        access=Access.OPEN,
        answer=Catalog,
    ),
    _page("/", "chatPage", "The chat page", "text/html"),
    _page("/console/{name}", "chatFile", "A file of the pages", "application/octet-stream", refused=(404,))._replace(
        parameters=(Parameter("name", "path", "The file's name."),)
    ),
    _page("/docs", "docs", "This documentation, for people", "text/html"),
    _page("/docs.md", "docsAsMarkdown", "Its first page as Markdown", "text/markdown"),
    _page(
        "/docs/{page}", "docsPage", "A page of it; with `.md` after its name as Markdown", "text/html", refused=(404,)
    ),
    _page("/llms.txt", "llms", "A list of the pages, for language models", "text/plain"),
    _page("/llms-full.txt", "llmsFull", "All pages in one, for language models", "text/plain"),
    Endpoint(
        "GET",
        "/openapi.json",
        "openapi",
        "Documentation",
        "This document",
        access=Access.OPEN,
        answer={"type": "object"},
    ),
)
