"""The document: sound by its own rules, and all it refers to is there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from meshnode.api.openapi.document import HEADERS, codes, document, error_statuses, statuses
from meshnode.api.openapi.endpoint import Access
from meshnode.api.openapi.table import ENDPOINTS

DOCUMENT = document(ENDPOINTS, version="1.2.3")


def test_it_says_what_it_is() -> None:
    assert re.fullmatch(r"3\.1\.\d", DOCUMENT["openapi"])
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_every_reference_leads_somewhere() -> None:
    found = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT))
    assert found
    for path in set(found):
        place: Any = DOCUMENT
        for step in path.split("/"):
            place = place[step]


def test_every_operation_is_whole() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
            assert operation["summary"]
            assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
            for requirement in operation["security"]:
                assert set(requirement) <= set(DOCUMENT["components"]["securitySchemes"])


def test_streams_are_told_of_where_there_are_some() -> None:
    chat = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert chat["text/event-stream"]["schema"] == {"$ref": "#/components/schemas/ChatCompletionChunk"}
    embeddings = DOCUMENT["paths"]["/v1/embeddings"]["post"]["responses"]["200"]["content"]
    assert set(embeddings) == {"application/json"}


def test_what_asks_for_a_token_says_so() -> None:
    for each in ENDPOINTS:
        assert (401 in statuses(each)) is (each.access is not Access.OPEN)
    assert DOCUMENT["paths"]["/api/stop"]["post"]["security"] == [{"adminToken": []}]
    assert DOCUMENT["paths"]["/health"]["get"]["security"] == []


def test_the_errors_of_a_status_are_those_of_the_tree() -> None:
    assert [code for code, _ in codes(404)] == ["not_found", "model_not_found"]
    assert {status for each in ENDPOINTS for status in statuses(each)} <= set(error_statuses())
    assert all(about for status in error_statuses() for _, about in codes(status))
    assert "port_in_use" not in json.dumps(DOCUMENT)


def test_a_retry_hint_is_told_of_where_it_comes() -> None:
    responses = DOCUMENT["components"]["responses"]
    assert "retry-after" in responses["Error503"]["headers"]
    assert "retry-after" not in responses["Error400"]["headers"]
    assert set(DOCUMENT["components"]["headers"]) == set(HEADERS)
