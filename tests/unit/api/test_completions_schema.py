"""Completion requests."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params

from meshnode.api.completions_schema import MOST_PROMPTS, REFUSALS, CompletionFields, parse_completion
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


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["a", "b"], ("a", "b")),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1]], ("a", (1,))),
        (["x"] * MOST_PROMPTS, ("x",) * MOST_PROMPTS),
    ],
)
def test_several_prompts(given: object, read: object) -> None:
    ask = parse(prompt=given, n=2)
    assert (ask.request.prompt, ask.request.prompts, ask.request.choices) == (None, read, 2)
    assert ask.echo == {"n": 2}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["x"] * (MOST_PROMPTS + 1)}, "prompt"),
        ({"prompt": ["x"] * 3, "n": 128}, "prompt"),
        ({"prompt": ["x", 3]}, "prompt[1]"),
        ({"prompt": ["x", [-1]]}, "prompt[1][0]"),
        ({"prompt": ["x", []]}, "prompt[1]"),
        ({"prompt": "x", "n": 3, "best_of": 2}, "best_of"),
        ({"prompt": "x", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "x", "best_of": 129}, "best_of"),
        ({"prompt": "x", "logprobs": 6}, "logprobs"),
        ({"prompt": "x", "echo": 1}, "echo"),
        ({"prompt": "x", "suffix": 1}, "suffix"),
    ],
)
def test_what_is_wrong_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_the_best_are_chosen_by_probabilities_that_are_asked_for_but_not_shown() -> None:
    ask = parse(prompt="x", best_of=5, n=2)
    assert (ask.request.choices, ask.request.top_logprobs) == (5, 0)
    assert ask.echo == {"n": 2, "best_of": 5, "logprobs": False}
    shown = parse(prompt="x", best_of=5, logprobs=3)
    assert (shown.request.top_logprobs, shown.echo) == (3, {"n": 1, "best_of": 5, "logprobs": True})
    plain = parse(prompt="x", n=2, best_of=2, stream=True)
    assert (plain.request.choices, plain.request.top_logprobs, plain.echo) == (2, None, {})


def test_what_is_repeated_and_what_comes_after_the_answer() -> None:
    ask = parse(prompt="x", echo=True, suffix="z")
    assert (ask.echo, ask.request.suffix, ask.request.echo) == ({"prompts": ["x"]}, "z", False)
    assert parse(prompt="x", suffix="").request.suffix is None
    assert parse(prompt=["x", [1, 2]], echo=True).echo == {"prompts": ["x", (1, 2)], "n": 1}
    with pytest.raises(UnsupportedParameter, match="echo beside logprobs"):
        parse(prompt="x", echo=True, logprobs=1)


def test_every_field_the_official_package_knows_is_known_by_name() -> None:
    theirs = get_type_hints(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(theirs) - set(CompletionFields.__struct_fields__) - set(REFUSALS) == set()


def test_what_changes_nothing_is_accepted_and_what_nobody_documents_is_not() -> None:
    parse(prompt="x", best_of=1, echo=False, suffix=None, logprobs=None, n=1, user="u", stream_options=None)
    with pytest.raises(UnknownField):
        parse(prompt="x", messages=[])
    with pytest.raises(UnknownField):
        parse(prompt="x", stream_options={"x": 1})
