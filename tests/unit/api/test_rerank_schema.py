"""Rerank requests."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.rerank_schema import MOST_DOCUMENTS, parse_rerank
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, Kind, RequestId
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("r1"), OWNER)
SMALLEST: dict[str, Any] = {"query": "q", "documents": ["a"]}


def parse(**fields: Any) -> Ask:
    return parse_rerank(json.dumps(fields).encode(), ASKER)


def test_strings_and_objects_are_documents() -> None:
    ask = parse(query="q", documents=["a", {"text": "b"}], model="m", deadline_ms=500, session_id="s", user="u")
    request = ask.request
    assert (request.kind, request.query, request.documents) == (Kind.RERANK, "q", ("a", "b"))
    assert (request.model, request.deadline_s, request.session) == ("m", 0.5, "s")
    assert (ask.model, ask.stream, ask.echo) == ("m", False, {})


def test_what_is_returned_is_remembered() -> None:
    assert parse(**SMALLEST, top_n=3, return_documents=True).echo == {"top_n": 3, "documents": ["a"]}
    assert parse(**SMALLEST, return_documents=False).echo == {}


@pytest.mark.parametrize(
    ("changes", "kind", "param"),
    [
        ({"query": None}, InvalidField, "query"),
        ({"query": ""}, InvalidField, "query"),
        ({"documents": []}, InvalidField, "documents"),
        ({"documents": None}, InvalidField, "documents"),
        ({"documents": "a"}, InvalidField, "documents"),
        ({"documents": [""]}, InvalidField, "documents[0]"),
        ({"documents": ["a", 3]}, InvalidField, "documents[1]"),
        ({"documents": ["a", {"title": "b"}]}, UnknownField, "documents[1].title"),
        ({"documents": [{"text": 3}]}, InvalidField, "documents[0].text"),
        ({"documents": ["a"] * (MOST_DOCUMENTS + 1)}, InvalidField, "documents"),
        ({"top_n": 0}, InvalidField, "top_n"),
        ({"max_tokens_per_doc": 5}, UnsupportedParameter, "max_tokens_per_doc"),
        ({"stream": True}, UnknownField, "stream"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], kind: type[RequestError], param: str) -> None:
    with pytest.raises(kind) as caught:
        parse(**(SMALLEST | changes))
    assert caught.value.param == param
    assert caught.value.status == 400


def test_what_was_written_is_never_quoted() -> None:
    for secret in ({"query": ["my secret"]}, {"documents": ["a", ["my secret"]]}, {"documents": "my secret"}):
        with pytest.raises(InvalidField) as caught:
            parse(**(SMALLEST | secret))
        assert "secret" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "x"]), inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["query", "documents", "top_n", "return_documents"]), JSON))
def test_any_json_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(RequestError):
        assert parse(**fields).request.kind is Kind.RERANK
