"""The reference has every endpoint and every record."""

from __future__ import annotations

import re

from meshnode.api.docs.html import slug
from meshnode.api.docs.reference import reference
from meshnode.api.openapi.document import document
from meshnode.api.openapi.table import ENDPOINTS

DOCUMENT = document(ENDPOINTS, version="0")
PAGE = reference(DOCUMENT)


def test_every_endpoint_has_its_heading_or_stands_under_the_one_it_is_the_same_as() -> None:
    for each in ENDPOINTS:
        part = PAGE.partition(f"\n### {each.method} {each.same_as or each.path}\n")[2].partition("\n### ")[0]
        assert part
        assert not each.same_as or f"`{each.path}`" in part


def test_every_link_to_a_record_leads_to_one() -> None:
    names = {slug(heading) for heading in re.findall(r"^### (.+)$", PAGE, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert links
    assert links <= names


def test_bodies_answers_and_errors_are_told() -> None:
    part = PAGE.partition("### POST /v1/chat/completions\n")[2].partition("\n### ")[0]
    assert "Body: [ChatFields](#chatfields) as `application/json`." in part
    assert "[ChatCompletionChunk](#chatcompletionchunk) as `text/event-stream`" in part
    assert "Errors: 400, 401, " in part
    record = PAGE.partition("### Prices\n")[2].partition("\n### ")[0]
    assert "| `input_uc` | integer | yes |" in record
