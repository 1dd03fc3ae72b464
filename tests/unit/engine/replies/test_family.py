"""A forced call is one that is understood, whatever the model: the grammar accepts only what the parser reads."""

from __future__ import annotations

import json
import random

import pytest

from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.engine.replies import families
from meshnode.engine.replies.families import GENERIC, HERMES, TABLE
from meshnode.engine.replies.family import Family
from meshnode.engine.replies.pieces import CallBegan, Said, Thought
from tests.kit.replies import Bytes, accepts, arguments, fed, offered, walk

FAMILIES = {family.name: family for _, family in TABLE} | {GENERIC.name: GENERIC}
REQUIRED, AUTO = ToolChoice(mode=ToolMode.REQUIRED), ToolChoice()
ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "unit": {"enum": ["m", "ft"]}, "exact": {"type": "boolean"}},
    "required": ["a", "unit"],
    "additionalProperties": False,
}
STRICT = [
    Tool(name="add", parameters=json.dumps(ADD), strict=True),
    Tool(name="ping", parameters='{"type": "object", "additionalProperties": false}', strict=True),
]
TAILS = {"functionary-v3.2": ">>>", "harmony": "<|start|>assistant"}


def is_right(name: str, text: str) -> bool:
    """Whether these are arguments that the strict schemas let through."""
    value = json.loads(text)
    if name == "ping":
        return bool(value == {})
    kinds = {"a": type(value.get("a")) is int, "unit": value.get("unit") in ("m", "ft")}
    kinds["exact"] = type(value.get("exact", True)) is bool
    return all(kinds.values()) and set(value) <= set(kinds)


@pytest.mark.parametrize("spoken", [False, True], ids=["text", "control tokens"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_required_call_is_made_by_a_model_that_knows_nothing(name: str, spoken: bool) -> None:
    family, tail = FAMILIES[name], TAILS.get(name, "")
    tokenizer = Bytes(family.preserved if spoken else ())
    grammar = family.forced(STRICT, REQUIRED, prompt_tail=tail, control=tokenizer.control)
    assert grammar is not None
    ended = 0
    for seed in range(12):
        reply, over = walk(grammar, tokenizer, random.Random(seed))
        pieces = fed(family.parser(tools=STRICT, prompt_tail=tail), [reply])
        if over:
            ended += 1
            assert not any(isinstance(piece, Said) for piece in pieces), reply
            names = {piece.index: piece.name for piece in pieces if isinstance(piece, CallBegan)}
            assert names, reply
            assert all(is_right(names[index], text) for index, text in arguments(pieces).items()), reply
    assert ended, "none came to an end"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_named_tool_is_the_only_one_and_called_once(name: str) -> None:
    family, tail = FAMILIES[name], TAILS.get(name, "")
    choice = ToolChoice(mode=ToolMode.REQUIRED, names=("ping",))
    grammar = family.forced(STRICT, choice, parallel=False, prompt_tail=tail)
    assert grammar is not None
    for seed in range(6):
        reply, over = walk(grammar, Bytes(), random.Random(seed))
        pieces = fed(family.parser(tools=STRICT, prompt_tail=tail), [reply])
        if over:
            assert [piece.name for piece in pieces if isinstance(piece, CallBegan)] == ["ping"], reply


@pytest.mark.parametrize("name", FAMILIES)
def test_with_a_strict_tool_text_is_free_and_a_call_is_not(name: str) -> None:
    family, tail = FAMILIES[name], TAILS.get(name, "")
    grammar = family.forced(STRICT, AUTO, prompt_tail=tail)
    assert grammar is not None
    before = {"functionary-v3.2": "all\n", "harmony": "<|channel|>final<|message|>"}
    assert accepts(grammar, before.get(name, "") + "It is <3 metres> long,\nmore or less.", Bytes())
    required = family.forced(STRICT, ToolChoice(mode=ToolMode.REQUIRED, names=("ping",)), prompt_tail=tail)
    calls = [walk(required or "", Bytes(), random.Random(seed)) for seed in range(4)]
    good = [reply for reply, over in calls if over]
    assert all(accepts(grammar, reply, Bytes()) for reply in good)
    for reply in good:
        assert not accepts(grammar, reply.replace("ping", "pong"), Bytes())


def test_what_needs_no_grammar_has_none() -> None:
    loose = offered()
    assert HERMES.forced(loose, AUTO) is None
    assert HERMES.forced(STRICT, ToolChoice(mode=ToolMode.NONE)) is None
    assert HERMES.forced([], REQUIRED) is None
    assert HERMES.forced(STRICT, ToolChoice(mode=ToolMode.REQUIRED, names=("other",))) is None


def test_reasoning_may_come_before_a_forced_call() -> None:
    call = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    thinking = families.family_of("<tool_call> <think>")
    opened = thinking.forced(STRICT, REQUIRED, prompt_tail="<think>\n") or ""
    assert accepts(opened, f"Hm.\n</think>\n\n{call}", Bytes())
    assert not accepts(opened, f"Hm. {call}", Bytes())
    free = thinking.forced(STRICT, REQUIRED) or ""
    assert accepts(free, f"<think>Hm.</think>\n\n{call}", Bytes())
    assert accepts(free, call, Bytes())
    closed = thinking.forced(STRICT, REQUIRED, prompt_tail="<think>\n\n</think>\n\n") or ""
    assert not accepts(closed, f"<think>Hm.</think>\n\n{call}", Bytes())
    never = HERMES.forced(STRICT, REQUIRED) or ""
    assert not accepts(never, f"<think>Hm.</think>\n\n{call}", Bytes())


def test_marks_that_are_tokens_are_forced_as_tokens() -> None:
    tokenizer = Bytes(["<tool_call>", "</tool_call>"])
    grammar = HERMES.forced(STRICT, REQUIRED, control=tokenizer.control) or ""
    call = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    assert accepts(grammar, call, tokenizer)
    assert not accepts(grammar, call, Bytes(["<one>", "<other>"]))


def test_only_the_syntax_that_can_be_forced_begins_a_call_of_a_strict_tool() -> None:
    fenced = '```json\n{"name": "ping", "arguments": {}}\n```'
    pieces = fed(GENERIC.parser(tools=STRICT), [fenced])
    assert pieces == [Said(fenced)]


def test_a_mark_that_is_spelled_out_is_held_as_its_token_is() -> None:
    tokenizer = Bytes(["<tool_call>", "</tool_call>"])
    grammar = HERMES.forced(STRICT, AUTO, control=tokenizer.control) or ""
    call = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    spelled = Bytes(["<one>", "<other>"])
    assert accepts(grammar, f"Well: {call} so.", tokenizer)
    assert accepts(grammar, "Well, so.", tokenizer)
    for text in ("Well: <tool_call>what", call.replace("{}", '{"x": 1}')):
        assert not accepts(grammar, text, tokenizer)
        assert not accepts(grammar, text, spelled)


def test_what_no_grammar_holds_begins_no_call() -> None:
    qwen, tail = families.QWEN3_CODER, "<think>\n"
    call = "<tool_call>\n<function=ping>\n</function>\n</tool_call>"
    free = fed(qwen.parser(tools=offered(), prompt_tail=tail), [f"Hm. {call}"])
    assert any(isinstance(piece, CallBegan) for piece in free)
    for parser in (
        qwen.parser(tools=offered(), prompt_tail=tail, forced=True),
        qwen.parser(tools=STRICT, prompt_tail=tail),
    ):
        assert fed(parser, [f"Hm. {call}"]) == [Thought(f"Hm. {call}")]
    action = 'Action: ```json\n[{"tool_name": "ping", "parameters": {}}]\n```'
    assert fed(families.COMMAND_R.parser(tools=offered(), forced=True), [action]) == [Said(action)]


def test_a_string_that_raw_text_cannot_be_held_to_is_forced_as_json() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string", "pattern": "^[0-9]{3}$"}}, "required": ["id"]}
    tool = Tool(name="get", parameters=json.dumps(schema | {"additionalProperties": False}), strict=True)
    grammar = families.QWEN3_CODER.forced([tool], REQUIRED) or ""
    assert accepts(grammar, '<tool_call>\n{"name": "get", "arguments": {"id": "123"}}\n</tool_call>', Bytes())
    assert not accepts(grammar, '<tool_call>\n{"name": "get", "arguments": {"id": "12x"}}\n</tool_call>', Bytes())
    assert not accepts(
        grammar, "<tool_call>\n<function=get>\n<parameter=id>\n12x\n</parameter>\n</function>\n</tool_call>", Bytes()
    )


def test_what_of_a_prompt_is_replayed() -> None:
    assert HERMES.replayed("<|im_start|>assistant\n<think>\nSo") == "<think>\nSo"
    assert HERMES.replayed("<think>\n\n</think>\n\n") == HERMES.replayed("assistant\n") == ""
    assert families.HARMONY.replayed("<|end|><|start|>assistant") == "<|start|>assistant"
    assert families.FUNCTIONARY_32.replayed("\n\n>>>") == ">>>"


def test_ids_are_the_callers_where_the_model_writes_none() -> None:
    parser = HERMES.parser(tools=offered("ping"), ids="abcdefgh{}".format)
    pieces = fed(parser, ['<tool_call>{"name": "ping"}</tool_call>'])
    assert pieces[0] == CallBegan(0, "abcdefgh0", "ping")
    assert parser.calls == 1


def test_a_parser_can_start_in_the_middle_of_reasoning() -> None:
    pieces = fed(HERMES.parser(tools=(), prompt_tail="<think>\nTwo"), [" rivers.</think>\n\nLyon."])
    assert pieces == [Thought(" rivers."), Said("Lyon.")]


def test_families_differ_by_name() -> None:
    assert len({family.name for _, family in TABLE}) == len({id(family) for _, family in TABLE})
    assert isinstance(GENERIC, Family)
