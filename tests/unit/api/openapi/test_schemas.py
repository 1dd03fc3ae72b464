"""Structs as schemas: complete, and never stricter than the parser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from meshnode.api.chat_schema import ChatFields, parse_chat
from meshnode.api.compare_schema import parse_comparison
from meshnode.api.completions_schema import CompletionFields, parse_completion
from meshnode.api.embeddings_schema import EmbeddingFields, parse_embedding
from meshnode.api.messages.schema import MessagesFields, parse_count, parse_messages
from meshnode.api.messages.schema import PromptFields as CountFields
from meshnode.api.openapi.bodies import ChatToTokens, Comparison, CountedResponse
from meshnode.api.openapi.endpoint import Many
from meshnode.api.openapi.schemas import Schemas, allowed
from meshnode.api.rerank_schema import RerankFields, parse_rerank
from meshnode.api.responses.parse import parse_count as parse_input_tokens
from meshnode.api.responses.parse import parse_response
from meshnode.api.responses.schema import ResponseFields
from meshnode.api.schema import Ask, Asker
from meshnode.api.tokens_schema import TextFields, TokenFields, parse_detokenize, parse_tokenize
from meshnode.domain import OWNER, RequestId
from meshnode.errors import MeshnodeError

PARSERS: dict[type, tuple[Callable[[bytes, Asker], Ask], dict[str, Any]]] = {
    ChatFields: (parse_chat, {"messages": [{"role": "user", "content": "hi"}]}),
    CompletionFields: (parse_completion, {"prompt": "hi"}),
    EmbeddingFields: (parse_embedding, {"input": "hi"}),
    ResponseFields: (parse_response, {"input": "hi"}),
    MessagesFields: (parse_messages, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}),
    CountFields: (parse_count, {"messages": [{"role": "user", "content": "hi"}]}),
    CountedResponse: (parse_input_tokens, {"input": "hi"}),
    RerankFields: (parse_rerank, {"query": "q", "documents": ["a"]}),
    TextFields: (parse_tokenize, {"content": "hi"}),
    TokenFields: (parse_detokenize, {"tokens": [1]}),
    Comparison: (
        lambda body, asker: parse_comparison(body, asker).ask,
        {"messages": [{"role": "user", "content": "hi"}], "models": ["a", "b"]},
    ),
    ChatToTokens: (parse_tokenize, {"messages": [{"role": "user", "content": "hi"}]}),
}
SCHEMAS = Schemas(PARSERS, ())
ASKER = Asker(RequestId("r"), OWNER)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(-3, 3),
    st.sampled_from(["", "a", "auto", "none", "text", "low", "standard", "base64", "json_object"]),
    st.lists(st.sampled_from(["a", "", 1, 0, {}]), max_size=3),
    st.sampled_from([
        {}, {"type": "text"}, {"type": "json_object"}, {"1": 5}, {"a": 1}, {"include_usage": True},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, {"regex": "a"},
        [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        [{"role": "tool", "content": "a", "tool_call_id": "1"}],
        {"type": "function", "function": {"name": "f"}}, [[1, 2], "a"],
        [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "custom", "name": "g"}],
        [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}],
        [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}],
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}, {"id": "msg_1"}],
        [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
         {"type": "function_call_output", "call_id": "1", "output": "a"}],
        [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}], "id": "rs_1"}],
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
         {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "a"}]}],
        [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "a"}}]}],
        [{"name": "f", "parameters": {}}], {"name": "f"}, {"type": "content", "content": "a"},
        [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
         {"role": "function", "name": "f", "content": "a"}], ["middle-out"], [{"id": "context-compression"}],
        {"effort": "low"}, {"type": "enabled", "budget_tokens": 2000}, {"type": "adaptive"}, {"user_id": "a"},
        {"format": {"type": "json_schema", "schema": {}}},
        {"format": {"type": "json_schema", "name": "a", "schema": {}}},
        {"type": "any"}, {"type": "tool", "name": "f"}, {"type": "function", "name": "f"}, {"id": "a", "version": "1"},
        {"order": ["local"], "sort": "price", "max_price": {"prompt": 1}}, ["message.output_text.logprobs"],
    ]),
)  # fmt: skip


def validator(kind: type) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS.of(kind) | {"components": {"schemas": SCHEMAS.components}})


@pytest.mark.parametrize("kind", PARSERS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_the_parser_takes_the_schema_takes(kind: type, data: st.DataObject) -> None:
    parse, smallest = PARSERS[kind]
    names = st.sampled_from([*SCHEMAS.component(kind)["properties"], "nonsense"])
    body = smallest | data.draw(st.dictionaries(names, VALUES, max_size=3))
    try:
        parse(msgspec.json.encode(body), ASKER)
    except MeshnodeError:
        return
    assert list(validator(kind).iter_errors(body)) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatFields, {}),
        (ChatFields, {"messages": []}),
        (ChatFields, {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}),
        (ChatFields, {"messages": [{"role": "nobody", "content": "a"}]}),
        (ChatFields, {"messages": [{"role": "user", "content": "a", "color": 1}]}),
        (ChatFields, {"messages": [{"role": "user", "content": "a"}], "temperature": 3}),
        (ChatFields, {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {}}]}),
        (CompletionFields, {}),
        (CompletionFields, {"prompt": [1, "a"]}),
        (EmbeddingFields, {"input": ""}),
        (EmbeddingFields, {"input": "a", "nonsense": 1}),
    ],
)
def test_what_the_schema_refuses_the_parser_refuses(kind: type, body: dict[str, Any]) -> None:
    assert not validator(kind).is_valid(body)
    with pytest.raises(MeshnodeError):
        PARSERS[kind][0](msgspec.json.encode(body), ASKER)


def test_a_call_in_older_words_is_one() -> None:
    said = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    body = {"messages": [said, {"role": "function", "name": "f", "content": "a"}]}
    parse_chat(msgspec.json.encode(body), ASKER)
    assert validator(ChatFields).is_valid(body)


def test_a_field_says_what_it_does_and_what_it_may_be() -> None:
    properties = SCHEMAS.component(ChatFields)["properties"]
    assert properties["temperature"]["description"].endswith("Allowed: a number from 0 to 2.")
    assert properties["user"]["description"].startswith("Accepted without effect: ")
    refused = properties["web_search_options"]
    assert refused["deprecated"]
    assert "Not served by this node. Leave it out." in refused["description"]


def test_an_array_of_structs_refers_to_them() -> None:
    assert SCHEMAS.of(Many(ChatFields)) == {"type": "array", "items": {"$ref": "#/components/schemas/ChatFields"}}
    assert SCHEMAS.of({"type": "string"}) == {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "boolean"}, "true or false"),
        ({"enum": ["a", "b"]}, "`a` or `b`"),
        ({"const": 1}, "`1`"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "a string"),
        ({"type": "array", "items": {"type": "integer"}}, "an array, each a whole number"),
        ({"$ref": "#/x"}, "an object"),
        ({}, ""),
    ],
)
def test_types_in_words(schema: dict[str, Any], words: str) -> None:
    assert allowed(schema) == words
