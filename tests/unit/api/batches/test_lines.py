"""Lines of an input file, right, wrong and garbage; and the rows that they come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.batches.lines import (
    MOST_CUSTOM_ID,
    Unusable,
    Wanted,
    answered_row,
    asker_of,
    late_row,
    parse_line,
    refused_row,
    unnamed_row,
)
from meshnode.api.dialect import Dialect
from meshnode.api.dialects import CHAT, EMBEDDING
from meshnode.api.schema import Ask, Asker, Keep
from meshnode.domain import OWNER, RequestId
from meshnode.errors import InvalidField
from tests.kit.batches import a_line

ENDPOINT = "/v1/chat/completions"
ASKER = asker_of("batch_1", 3, OWNER)
ID = RequestId("batch_1-3")


def parse(line: object) -> Wanted | Unusable:
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    return parse_line(data, ASKER, endpoint=ENDPOINT, dialect=CHAT)


def test_a_line_is_read_by_its_dialect() -> None:
    found = parse(a_line("a", "hällo", max_tokens=5))
    assert isinstance(found, Wanted)
    assert found.custom_id == "a"
    assert (found.ask.request.id, found.ask.request.caller) == (ID, OWNER)
    assert found.ask.request.stopping.max_tokens == 5
    assert "hällo" in str(found.ask.request.messages)
    other = {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}}
    found = parse_line(json.dumps(other).encode(), ASKER, endpoint="/v1/embeddings", dialect=EMBEDDING)
    assert isinstance(found, Wanted)
    assert found.ask.echo == {"compact": False}


LINE = a_line("a")
WRONG: list[tuple[Any, str | None, str | None]] = [
    (b"", None, None),
    (b"not JSON", None, None),
    (b"[1]", None, None),
    (b'{"custom_id": "a", "custom_id": "b"}', None, None),
    (b'{"custom_id": NaN}', None, None),
    (b"[" * 100_000, None, None),
    ({}, None, "custom_id"),
    ({**LINE, "custom_id": ""}, None, "custom_id"),
    ({**LINE, "custom_id": 7}, None, "custom_id"),
    ({**LINE, "custom_id": "x" * (MOST_CUSTOM_ID + 1)}, None, "custom_id"),
    ({**LINE, "method": "GET"}, "a", "method"),
    ({**LINE, "url": "/v1/embeddings"}, "a", "url"),
    ({**LINE, "url": None}, "a", "url"),
    ({**LINE, "body": "text"}, "a", "body"),
    ({**LINE, "body": None}, "a", "body"),
    ({**LINE, "body": {}}, "a", "messages"),
    ({**LINE, "note": 1}, "a", "note"),
    (a_line("a", stream=True), "a", "stream"),
    (a_line("a", temperature="hot"), "a", "temperature"),
]


@pytest.mark.parametrize(("line", "custom_id", "param"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_and_the_line_with_it(line: object, custom_id: str | None, param: str | None) -> None:
    found = parse(line)
    assert isinstance(found, Unusable)
    assert (found.custom_id, found.error.param) == (custom_id, param)
    assert "the body" not in str(found.error)


def test_what_somebody_wrote_is_not_quoted() -> None:
    found = parse({**LINE, "body": {"messages": [{"role": "user", "content": 5}], "prompt": "SECRET"}})
    assert isinstance(found, Unusable)
    assert "SECRET" not in str(found.error)


def test_an_answer_in_the_background_of_a_background_is_refused() -> None:
    def parse_background(body: bytes, asker: Asker) -> Ask:
        return CHAT.parse(body, asker)._replace(keep=Keep(background=True))

    dialect = Dialect("chat", "chatcmpl-", parse_background, CHAT.renderer)
    found = parse_line(json.dumps(LINE).encode(), ASKER, endpoint=ENDPOINT, dialect=dialect)
    assert isinstance(found, Unusable)
    assert found.error.param == "background"


@given(st.binary(max_size=200))
def test_garbage_is_unusable_and_nothing_else(garbage: bytes) -> None:
    assert isinstance(parse(garbage), Unusable)


def test_rows_are_openais() -> None:
    error = InvalidField("temperature: 9 is not allowed.", param="temperature")
    found = [
        json.loads(row)
        for row in (
            answered_row(ID, "a", {"object": "chat.completion"}),
            refused_row(ID, "a", 400, {"error": {"code": "invalid_value"}}),
            unnamed_row(ID, 3, error),
            late_row(ID, "a"),
        )
    ]
    assert all(row.keys() == {"id", "custom_id", "response", "error"} for row in found)
    assert [row["id"] for row in found] == ["batch_req_1-3"] * 4
    assert [row["custom_id"] for row in found] == ["a", "a", None, "a"]
    answer = {"status_code": 200, "request_id": ID, "body": {"object": "chat.completion"}}
    assert (found[0]["response"], found[0]["error"]) == (answer, None)
    assert found[1]["response"]["status_code"] == 400
    assert found[2]["error"] == {"code": "invalid_value", "message": "Line 3: temperature: 9 is not allowed."}
    assert found[3]["error"]["code"] == "batch_expired"
    assert all(row.endswith(b"\n") for row in (late_row(ID, "a"), unnamed_row(ID, 3, error)))
