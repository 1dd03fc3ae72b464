"""Markdown as pages: nothing raw comes through, and headings can be linked to."""

from __future__ import annotations

import re

from meshnode.api.docs.book import GROUPS, Page, page
from meshnode.api.docs.html import rendered, slug

PAGES = {name: Page(name, f"Title of {name}", "About.", "") for names in GROUPS.values() for name in names}


def shown(text: str, name: str = "chat") -> str:
    return rendered(page(name, text), PAGES)


def test_html_in_a_page_is_shown_and_never_run() -> None:
    html = shown("# <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1))\n")
    assert "<script" not in html
    assert "<img" not in html
    assert 'href="javascript' not in html


def test_pages_need_neither_scripts_nor_styles_of_their_own() -> None:
    html = shown("# A\n\n| a | b |\n|---|:---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n".replace(":---", "---"))
    assert "style=" not in html
    assert "<script" not in html
    assert '<div class="wide"><table>' in html
    assert '<code class="language-python">' in html


def test_headings_have_names_of_their_own() -> None:
    html = shown("# A\n\n## Same `thing`\n\n## Same thing\n")
    assert re.findall(r'<h\d id="([^"]+)"', html) == ["a", "same-thing", "same-thing-2"]
    assert '<a href="#same-thing-2">' in html
    assert slug("POST /v1/models/{name}") == "post-v1-models-name"


def test_the_list_of_pages_marks_the_one_that_is_read() -> None:
    html = shown("# A\n")
    assert html.count("aria-current") == 1
    assert '<a href="/docs/chat" aria-current="page">' in html
    assert '<a href="/docs/chat.md">' in html


def test_a_page_of_very_many_headings_lists_the_great_ones() -> None:
    html = shown("# A\n\n## One\n\n## Two\n\n" + "### Small\n\n" * 100)
    assert '<a href="#two">' in html
    assert '<a href="#small">' not in html
