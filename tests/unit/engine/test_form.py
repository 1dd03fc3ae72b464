"""Answers that are held to a form and read as what they are: on the deterministic backend, whose tokens are bytes."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from meshnode.domain import (
    Constraint,
    ConstraintKind,
    FinishReason,
    GenerationRequest,
    Sampling,
    Stopping,
    Tool,
    ToolChoice,
    ToolMode,
)
from meshnode.engine.fake import FakeBackend
from meshnode.events import ReasoningDelta, ToolCallDelta, ToolCallStarted
from tests.kit.driven import Driven, asking, chatting

LONG = Stopping(max_tokens=400)
PLACE = json.dumps({
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
})  # fmt: skip
WEATHER = Tool(name="weather", parameters=PLACE)
THINKER = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"


def held(kind: ConstraintKind, source: str, *, seed: int = 1, **fields: object) -> GenerationRequest:
    """A request whose answer is held to a form, and drawn with some chance."""
    sampling = Sampling(temperature=1.5, seed=seed)
    request = asking("abc", sampling=sampling, stopping=LONG)
    return msgspec.structs.replace(request, constraint=Constraint(kind=kind, source=source), **fields)


def offering(
    *tools: Tool, mode: ToolMode = ToolMode.AUTO, names: tuple[str, ...] = (), **fields: object
) -> GenerationRequest:
    """A conversation with tools."""
    request = chatting("weather?", stopping=LONG)
    return msgspec.structs.replace(request, tools=tools, tool_choice=ToolChoice(mode=mode, names=names), **fields)


def calls(driven: Driven, number: int) -> list[tuple[str, str]]:
    """Name and arguments of each call."""
    found: dict[int, tuple[str, str]] = {}
    for event in driven.events(number):
        if isinstance(event, ToolCallStarted):
            found[event.index] = event.name, ""
        elif isinstance(event, ToolCallDelta):
            name, arguments = found[event.index]
            found[event.index] = name, arguments + event.arguments
    return list(found.values())


# --- what must hold ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_in_a_schema_is_one_and_ends_by_itself(seed: int) -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(held(ConstraintKind.JSON_SCHEMA, PLACE, seed=seed))
    assert json.loads(driven.run().text(number))["city"] in ("Rome", "Oslo")
    assert driven.reason(number) is FinishReason.STOP


def test_a_choice_ends_with_its_last_letter_and_not_a_token_later() -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(held(ConstraintKind.CHOICE, '["yes", "no"]'))
    text = driven.run().text(number)
    assert text in ("yes", "no")
    assert driven.finished(number).usage.completion_tokens == len(text)


def test_every_answer_of_a_request_is_held_by_itself() -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(held(ConstraintKind.REGEX, "[a-z]{2}-[0-9]{3}", choices=4))
    driven.run()
    texts = [driven.text(number, choice) for choice in range(4)]
    assert all(re.fullmatch("[a-z]{2}-[0-9]{3}", text) for text in texts)
    assert len(set(texts)) > 1


def test_an_answer_cut_short_says_so() -> None:
    request = held(ConstraintKind.REGEX, "[a-z]{20}", stopping=Stopping(max_tokens=5))
    driven = Driven(FakeBackend())
    number = driven.submit(request)
    assert len(driven.run().text(number)) == 5
    assert driven.reason(number) is FinishReason.LENGTH


def test_a_complete_form_ends_an_answer_that_may_not_end_yet() -> None:
    request = held(ConstraintKind.CHOICE, '["ok"]', stopping=Stopping(max_tokens=50, min_tokens=20, ignore_eos=True))
    driven = Driven(FakeBackend())
    number = driven.submit(request)
    assert driven.run().text(number) == "ok"
    assert driven.reason(number) is FinishReason.STOP


def test_a_form_that_is_none_is_refused_and_its_neighbour_answered() -> None:
    driven = Driven(FakeBackend())
    bad = driven.submit(held(ConstraintKind.JSON_SCHEMA, '{"type": "colour"}'))
    good = driven.submit(asking("abc"))
    driven.run()
    assert (driven.failed(bad).code, driven.failed(bad).param) == ("invalid_value", "response_format")
    assert "type" in driven.failed(bad).message
    assert driven.finished(good)


# --- calls ------------------------------------------------------------------------------------


def test_a_call_that_the_model_makes_is_read() -> None:
    said = b'I look.\n```json\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```'
    driven = Driven(FakeBackend(script=lambda _: said))
    number = driven.submit(offering(WEATHER))
    driven.run()
    assert calls(driven, number) == [("weather", '{"city": "Oslo"}')]
    assert driven.text(number) == "I look."
    assert driven.reason(number) is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("told", [True, False])
def test_a_model_whose_template_shows_no_tools_may_call_as_it_was_told(told: bool) -> None:
    every = "{% for m in messages %}{{ m.content }}{{ (m.tool_calls or []) | tojson }}{% endfor %}"
    template = "{# <tool_call> #}{{ messages[0].content }}" + ("" if told else "{{ (tools or []) | tojson }}" + every)
    said = b'```json\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```'
    driven = Driven(FakeBackend(script=lambda _: said, template=template))
    number = driven.submit(offering(WEATHER))
    assert driven.run().text(number) == ("" if told else said.decode())
    assert calls(driven, number) == ([("weather", '{"city": "Oslo"}')] if told else [])


def test_what_looks_like_a_call_is_text_where_none_may_be_made() -> None:
    said = b'{"name": "weather", "arguments": {}}'
    for request in (offering(), offering(WEATHER, mode=ToolMode.NONE)):
        driven = Driven(FakeBackend(script=lambda _: said))
        assert driven.ask(request) == said.decode()
        assert driven.reason(1) is FinishReason.STOP


@pytest.mark.parametrize("names", [(), ("weather",)])
def test_a_call_that_must_be_is_made_by_any_model(names: tuple[str, ...]) -> None:
    driven = Driven(FakeBackend())
    other = Tool(name="stop", parameters='{"type": "object", "additionalProperties": false}')
    request = offering(WEATHER, other, mode=ToolMode.REQUIRED, names=names, parallel_tool_calls=False)
    number = driven.submit(request)
    ((name, arguments),) = calls(driven.run(), number)
    assert name in (names or ("weather", "stop"))
    assert isinstance(json.loads(arguments), dict)
    if name == "weather":
        assert json.loads(arguments)["city"] in ("Rome", "Oslo")
    assert driven.reason(number) is FinishReason.TOOL_CALLS


def test_a_tool_whose_schema_was_made_to_be_slow_or_deep_is_refused_as_an_answers_is() -> None:
    deep = {f"a{place}": {"properties": {"x": {"$ref": f"#/$defs/a{place + 1}"}}} for place in range(1200)}
    slow = {"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 9967}]}
    for schema in (
        {"$defs": deep | {"a1200": {}}, "properties": {"y": {"$ref": "#/$defs/a0"}}},
        {"properties": {"n": slow}},
    ):
        for strict in (False, True):
            driven = Driven(FakeBackend(n_ctx=1 << 18))
            tool = Tool(name="f", parameters=json.dumps({"type": "object"} | schema), strict=strict)
            number = driven.submit(offering(tool, mode=ToolMode.REQUIRED))
            driven.run()
            assert (driven.failed(number).code, driven.failed(number).param) == ("invalid_value", "tools")


def test_what_cannot_be_held_of_a_tool_is_refused_if_it_is_strict_and_let_be_if_not() -> None:
    for strict in (False, True):
        driven = Driven(FakeBackend(script=lambda _: b'{"name": "f", "arguments": {}}'))
        tool = Tool(name="f", parameters='{"type": "object", "not": {"required": ["a"]}}', strict=strict)
        number = driven.submit(offering(tool, mode=ToolMode.REQUIRED, parallel_tool_calls=False))
        driven.run()
        if strict:
            assert (driven.failed(number).code, driven.failed(number).param) == ("unsupported_parameter", "tools")
        else:
            assert calls(driven, number) == [("f", "{}")]


def test_ids_of_calls_repeat_with_the_answer_and_differ_between_answers() -> None:
    def ids(text: str, seed: int) -> list[str]:
        driven = Driven(FakeBackend())
        request = offering(WEATHER, mode=ToolMode.REQUIRED, parallel_tool_calls=False, choices=2)
        sampling = Sampling(seed=seed)
        messages = chatting(text).messages
        number = driven.submit(msgspec.structs.replace(request, messages=messages, sampling=sampling))
        return [event.id for event in driven.run().events(number) if isinstance(event, ToolCallStarted)]

    assert ids("a", 1) == ids("a", 1)
    assert len({*ids("a", 1), *ids("a", 2), *ids("b", 1)}) == 6
    assert all(re.fullmatch("[0-9a-z]{9}", one) for one in ids("a", 1))


# --- reasoning --------------------------------------------------------------------------------


def test_reasoning_that_the_prompt_opened_is_told_apart() -> None:
    driven = Driven(FakeBackend(script=lambda _: b"hm, yes</think>\n\nIt is.", template=THINKER))
    number = driven.submit(chatting("so?", stopping=LONG))
    driven.run()
    thoughts = "".join(event.text for event in driven.events(number) if isinstance(event, ReasoningDelta))
    assert (thoughts, driven.text(number)) == ("hm, yes", "It is.")
    assert 0 < driven.finished(number).usage.reasoning_tokens < driven.finished(number).usage.completion_tokens


@pytest.mark.parametrize("said", ["<think>", "</think>", "ink", ""])
def test_what_was_asked_opens_and_ends_no_thought(said: str) -> None:
    for template, thought in ((THINKER, "a"), (THINKER.partition("{% if")[0] + "<think>", "a"), (None, "")):
        driven = Driven(FakeBackend(script=lambda _: b"a</think>b", template=template))
        number = driven.submit(chatting(said, stopping=LONG))
        driven.run()
        thoughts = "".join(event.text for event in driven.events(number) if isinstance(event, ReasoningDelta))
        assert (thoughts, driven.text(number)) == (thought, "b" if thought else "a</think>b")


def test_a_form_holds_from_where_reasoning_ends() -> None:
    driven = Driven(FakeBackend(script=lambda _: b"which?</think>yes", template=THINKER))
    constraint = Constraint(kind=ConstraintKind.CHOICE, source='["yes", "no"]')
    number = driven.submit(msgspec.structs.replace(chatting("so?", stopping=LONG), constraint=constraint))
    assert driven.run().text(number) == "yes"
    assert any(isinstance(event, ReasoningDelta) for event in driven.events(number))


def test_marks_in_a_plain_prompts_answer_are_text() -> None:
    driven = Driven(FakeBackend(script=lambda _: b"<think>a</think>b"))
    assert driven.ask(asking("x", stopping=LONG)) == "<think>a</think>b"


# --- reasoning before what must hold, and a form beside calls ---------------------------------


def thoughts(driven: Driven, number: int) -> str:
    """What was reasoned."""
    return "".join(event.text for event in driven.events(number) if isinstance(event, ReasoningDelta))


HERMES = THINKER + "{# <tool_call> #}"
CALL = b'<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def test_a_call_that_must_be_comes_after_the_reasoning_that_the_prompt_opened() -> None:
    driven = Driven(FakeBackend(script=lambda _: b"hm</think>\n" + CALL, template=HERMES))
    request = offering(WEATHER, mode=ToolMode.REQUIRED, parallel_tool_calls=False)
    number = driven.submit(request)
    driven.run()
    assert thoughts(driven, number) == "hm"
    assert calls(driven, number) == [("weather", '{"city": "Oslo"}')]
    assert driven.text(number) == ""
    assert driven.reason(number) is FinishReason.TOOL_CALLS


CHOICE = Constraint(kind=ConstraintKind.CHOICE, source='["yes", "no", "{}"]')


@pytest.mark.parametrize("template", [None, HERMES, THINKER, "{# <tool_call> #}{{ messages[0].content }}"])
@pytest.mark.parametrize("said", ["yes", "a call"])
def test_beside_tools_an_answer_is_in_its_form_or_a_call(said: str, template: str | None) -> None:
    plain = template in (None, THINKER)
    call = b'{"name": "weather", "arguments": {"city": "Oslo"}}' if plain else CALL
    begun = b"hm</think>" if template in (HERMES, THINKER) else b""
    script = begun + (call if said == "a call" else said.encode())
    driven = Driven(FakeBackend(script=lambda _: script, template=template))
    number = driven.submit(offering(WEATHER, constraint=CHOICE, parallel_tool_calls=False))
    driven.run()
    assert calls(driven, number) == ([("weather", '{"city": "Oslo"}')] if said == "a call" else [])
    assert driven.text(number) == ("" if said == "a call" else said)
    assert driven.reason(number) is (FinishReason.TOOL_CALLS if said == "a call" else FinishReason.STOP)
    assert thoughts(driven, number) == begun.decode().removesuffix("</think>")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_model_would_rather_say_it_is_one_of_the_two(seed: int) -> None:
    driven = Driven(FakeBackend())
    sampling = Sampling(temperature=1.5, seed=seed)
    number = driven.submit(offering(WEATHER, constraint=CHOICE, parallel_tool_calls=False, sampling=sampling))
    text = driven.run().text(number)
    if text:
        assert text in ("yes", "no", "{}")
        assert calls(driven, number) == []
    else:
        ((name, arguments),) = calls(driven, number)
        assert (name, json.loads(arguments)["city"] in ("Oslo", "Rome")) == ("weather", True)


def test_a_call_that_must_be_is_no_matter_of_the_text_and_none_leaves_the_text_to_its_form() -> None:
    driven = Driven(FakeBackend())
    must = driven.submit(offering(WEATHER, mode=ToolMode.REQUIRED, constraint=CHOICE, parallel_tool_calls=False))
    none = driven.submit(offering(WEATHER, mode=ToolMode.NONE, constraint=CHOICE))
    driven.run()
    assert len(calls(driven, must)) == 1
    assert driven.text(none) in ("yes", "no", "{}")


def test_where_the_two_cannot_be_told_apart_they_are_refused_together() -> None:
    harmony = "{# <|channel|>analysis<|message|><|start|>assistant #}{{ messages[0].content }}"
    driven = Driven(FakeBackend(template=harmony))
    number = driven.submit(offering(WEATHER, constraint=CHOICE))
    driven.run()
    assert (driven.failed(number).code, driven.failed(number).param) == ("unsupported_parameter", "tools")
