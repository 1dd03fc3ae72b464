"""Markdown as HTML pages; the only door to markdown-it.

Raw HTML in a page is shown as text, and the pages need no script, so that the policy of all pages holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from meshnode.api.docs.book import GROUPS, Page

_LONGEST_CONTENTS: Final = 60
"""Headings beside a page; the reference has a heading for each record."""


def rendered(page: Page, pages: Mapping[str, Page]) -> str:
    """The page as an HTML document, with the list of pages beside it."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(page.text)
    headings = list(_anchored(tokens))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _DOCUMENT.format(
        title=escape(page.title),
        pages=_pages(page, pages),
        contents=_contents(headings),
        body=body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>"),
        source=escape(f"{page.path}.md"),
    )


def slug(text: str) -> str:
    """A heading's name in a link."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _anchored(tokens: list[Token]) -> Iterator[tuple[str, str, str]]:
    """Gives each heading a name of its own to link to: (tag, name, text)."""
    seen: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            name = slug(inline.content)
            seen[name] = seen.get(name, 0) + 1
            name = name if seen[name] == 1 else f"{name}-{seen[name]}"
            opening.attrSet("id", name)
            yield opening.tag, name, inline.content.replace("`", "")


def _pages(here: Page, pages: Mapping[str, Page]) -> str:
    parts = []
    for group, names in GROUPS.items():
        parts.append(f"<h2>{escape(group)}</h2><ul>")
        for each in (pages[name] for name in names):
            mark = ' aria-current="page"' if each.name == here.name else ""
            parts.append(f'<li><a href="{escape(each.path)}"{mark}>{escape(each.title)}</a></li>')
        parts.append("</ul>")
    return "".join(parts)


def _contents(headings: list[tuple[str, str, str]]) -> str:
    wanted = [each for each in headings if each[0] in ("h2", "h3")]
    if len(wanted) > _LONGEST_CONTENTS:
        wanted = [each for each in wanted if each[0] == "h2"]
    if len(wanted) < 2:
        return ""
    items = [f'<li class="{tag}"><a href="#{escape(name)}">{escape(text)}</a></li>' for tag, name, text in wanted]
    return f'<nav class="contents" aria-label="On this page"><h2>On this page</h2><ul>{"".join(items)}</ul></nav>'


_DOCUMENT: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title} · meshnode</title>
  <link rel="icon" href="/console/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/console/docs.css">
</head>
<body>
  <a class="skip" href="#content">Skip to the page</a>
  <header>
    <a class="name" href="/docs">meshnode</a>
    <nav aria-label="Elsewhere">
      <a class="narrow" href="#pages">Pages</a>
      <a href="/">Chat</a><a href="/docs/reference">API</a><a href="/openapi.json">OpenAPI</a>
      <a href="/llms.txt">llms.txt</a>
    </nav>
  </header>
  <div class="columns">
    <nav class="pages" id="pages" aria-label="Pages">{pages}</nav>
    <main id="content">
{body}
      <footer><a href="{source}">This page as Markdown</a></footer>
    </main>
    {contents}
  </div>
</body>
</html>
"""
