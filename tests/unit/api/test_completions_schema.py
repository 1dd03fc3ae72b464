"""Completion requests."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params

from meshnode.api.completions_schema import REFUSALS, CompletionFields, parse_completion
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, RequestId
from meshnode.errors import InvalidField, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("r1"), OWNER)


def parse(**fields: Any) -> Ask:
    return parse_completion(json.dumps(fields).encode(), ASKER)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [("say", "say"), ("", ""), (["say"], "say"), ([1, 2], (1, 2)), ([[1, 2]], (1, 2))],
)
def test_the_shapes_of_a_prompt(prompt: object, read: object) -> None:
    request = parse(prompt=prompt).request
    assert request.prompt == read
    assert request.messages == ()


def test_sixteen_tokens_unless_said_otherwise_as_openai_documents() -> None:
    assert parse(prompt="x").request.stopping.max_tokens == 16
    assert parse(prompt="x", max_tokens=99).request.stopping.max_tokens == 99


@pytest.mark.parametrize("prompt", [None, [], 3, {}, [-1], [2**31], [1.5], [True], [1, "x"], [[]], [[["x"]]]])
def test_other_shapes_are_refused(prompt: object) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(prompt=prompt)
    assert (caught.value.param or "").startswith("prompt")


def test_several_prompts_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter, match="several prompts"):
        parse(prompt=["a", "b"])


def test_every_field_the_official_package_knows_is_known_by_name() -> None:
    theirs = get_type_hints(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(theirs) - set(CompletionFields.__struct_fields__) - set(REFUSALS) == set()


@pytest.mark.parametrize(("name", "value"), [("best_of", 2), ("echo", True), ("suffix", "x")])
def test_what_would_change_the_answer_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        parse(prompt="x", **{name: value})
    assert caught.value.param == name


def test_what_changes_nothing_is_accepted_and_what_nobody_documents_is_not() -> None:
    parse(prompt="x", best_of=1, echo=False, suffix=None, logprobs=None, n=1, user="u", stream_options=None)
    with pytest.raises(UnknownField):
        parse(prompt="x", messages=[])
    with pytest.raises(UnknownField):
        parse(prompt="x", stream_options={"x": 1})
