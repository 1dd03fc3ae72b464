"""Requests to cut into tokens, to read back, to render."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.schema import Ask, Asker
from meshnode.api.tokens_schema import MOST_TOKENS, parse_apply_template, parse_detokenize, parse_tokenize
from meshnode.domain import OWNER, Kind, RequestId, Role, TextPart
from meshnode.errors import InvalidField, MeshnodeError, RequestError, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("r1"), OWNER)
CHAT = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
Parse = Callable[[bytes, Asker], Ask]


def parse(with_: Parse, **fields: Any) -> Ask:
    return with_(json.dumps(fields).encode(), ASKER)


@pytest.mark.parametrize("name", ["content", "prompt", "text"])
def test_a_text_under_any_of_its_names(name: str) -> None:
    ask = parse(parse_tokenize, **{name: "hello"}, model="m", deadline_ms=500)
    request = ask.request
    assert (request.kind, request.prompt, request.messages) == (Kind.COUNT, "hello", ())
    assert (request.add_special, request.echo, request.deadline_s) == (False, False, 0.5)
    assert (ask.model, request.model, ask.stream) == ("m", "m", False)
    assert ask.echo == {"show": "tokens"}


def test_special_tokens_and_pieces_as_they_are_asked_for() -> None:
    ask = parse(parse_tokenize, content="", add_special=True, with_pieces=True, parse_special=True)
    assert (ask.request.prompt, ask.request.add_special, ask.request.echo) == ("", True, True)
    assert ask.echo == {"show": "pieces"}


def test_a_conversation_with_all_that_chat_takes() -> None:
    ask = parse(parse_tokenize, messages=CHAT, tools=[TOOL], with_pieces=True, temperature=0, stream=True, max_tokens=5)
    request = ask.request
    assert request.messages[0].role is Role.USER
    assert request.messages[0].parts == (TextPart("hi"),)
    assert (request.kind, request.echo, request.tools[0].name) == (Kind.COUNT, True, "look_up")
    assert ask.stream is False


def test_a_template_is_applied_to_a_chat_request() -> None:
    form = {"type": "json_object"}
    ask = parse(parse_apply_template, messages=CHAT, model="m", response_format=form, logprobs=True, n=3)
    request = ask.request
    assert (request.kind, request.constraint, request.top_logprobs, request.choices) == (Kind.COUNT, None, None, 1)
    assert (ask.model, ask.echo) == ("m", {"show": "prompt"})


def test_token_ids_are_read() -> None:
    ask = parse(parse_detokenize, tokens=[1, 2])
    assert (ask.request.prompt, ask.echo) == ((1, 2), {"show": "content"})
    assert parse(parse_detokenize, tokens=[]).request.prompt == ()


@pytest.mark.parametrize(
    ("with_", "fields", "kind", "param"),
    [
        (parse_tokenize, {}, InvalidField, "content"),
        (parse_tokenize, {"content": 3}, InvalidField, "content"),
        (parse_tokenize, {"content": "a", "text": "b"}, InvalidField, "text"),
        (parse_tokenize, {"content": "a", "messages": CHAT}, InvalidField, "content"),
        (parse_tokenize, {"content": "a", "contents": "b"}, UnknownField, "contents"),
        (parse_tokenize, {"content": "a", "parse_special": False}, UnsupportedParameter, "parse_special"),
        (parse_tokenize, {"messages": CHAT, "with_pieces": 3}, InvalidField, "with_pieces"),
        (parse_tokenize, {"messages": []}, InvalidField, "messages"),
        (parse_detokenize, {}, InvalidField, "tokens"),
        (parse_detokenize, {"tokens": "x"}, InvalidField, "tokens"),
        (parse_detokenize, {"tokens": [-1]}, InvalidField, "tokens"),
        (parse_detokenize, {"tokens": [1.5]}, InvalidField, "tokens"),
        (parse_detokenize, {"tokens": [0] * (MOST_TOKENS + 1)}, InvalidField, "tokens"),
        (parse_apply_template, {"messages": CHAT, "wrong": 1}, UnknownField, "wrong"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_refused_by_name(
    with_: Parse, fields: dict[str, Any], kind: type[MeshnodeError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        parse(with_, **fields)
    assert caught.value.param is not None
    assert caught.value.param.startswith(param)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["content", "text", "tokens", "messages", "with_pieces", "add_special", "model", "other"])


@given(st.dictionaries(NAMES, JSON), st.sampled_from([parse_tokenize, parse_detokenize, parse_apply_template]))
def test_any_json_is_read_or_refused(fields: dict[str, Any], with_: Parse) -> None:
    with suppress(RequestError):
        assert parse(with_, **fields).request.kind is Kind.COUNT
