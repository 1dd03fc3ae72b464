"""Embedding requests."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from openai.types import embedding_create_params

from meshnode.api.embeddings_schema import MOST_INPUTS, EmbeddingFields, parse_embedding
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, Kind, RequestId
from meshnode.errors import InvalidField, UnknownField

ASKER = Asker(RequestId("r1"), OWNER)


def parse(**fields: Any) -> Ask:
    return parse_embedding(json.dumps(fields).encode(), ASKER)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("say", ("say",)),
        (["say"], ("say",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [1]], ("a", (1,))),
        (["a"] * MOST_INPUTS, ("a",) * MOST_INPUTS),
    ],
)
def test_the_shapes_of_an_input(given: object, read: object) -> None:
    request = parse(input=given).request
    assert (request.kind, request.inputs, request.choices) == (Kind.EMBED, read, 1)
    assert (request.prompt, request.messages) == (None, ())


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (None, "input"),
        ("", "input"),
        ([], "input"),
        (3, "input"),
        ({}, "input"),
        (["a", ""], "input[1]"),
        ([[]], "input[0]"),
        ([[1], []], "input[1]"),
        ([-1], "input[0]"),
        ([2**31], "input[0]"),
        ([1.5], "input[0]"),
        ([True], "input[0]"),
        ([1, "x"], "input[1]"),
        (["x", 1], "input[1]"),
        ([["x"]], "input[0][0]"),
        ([[[1]]], "input[0][0]"),
        (["a"] * (MOST_INPUTS + 1), "input"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_other_shapes_are_refused_by_place(given: object, param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(input=given)
    assert caught.value.param == param


def test_what_was_written_is_never_quoted() -> None:
    with pytest.raises(InvalidField) as caught:
        parse(input=[["my secret"]])
    assert "secret" not in str(caught.value)


def test_fields_are_read() -> None:
    ask = parse(model="m", input="x", dimensions=8, deadline_ms=1500, session_id="s", user="u", encoding_format="float")
    request = ask.request
    assert (request.model, request.dimensions, request.deadline_s, request.session) == ("m", 8, 1.5, "s")
    assert (ask.stream, ask.model) == (False, "m")


@pytest.mark.parametrize(
    ("field", "value"),
    [("dimensions", 0), ("dimensions", "8"), ("encoding_format", "hex"), ("deadline_ms", 0), ("model", 3)],
)
def test_wrong_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(**({"input": "x"} | {field: value}))
    assert caught.value.param == field


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(UnknownField, match="dimension "):
        parse(input="x", dimension=8)
    with pytest.raises(UnknownField, match="stream"):
        parse(input="x", stream=True)


def test_every_field_of_openai_is_known() -> None:
    ours = set(EmbeddingFields.__struct_encode_fields__)
    assert set(get_type_hints(embedding_create_params.EmbeddingCreateParams)) <= ours
