"""Every recorded reply is read the same however it is cut, and every known template finds its family."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.engine.replies import families
from meshnode.engine.replies.families import GENERIC, HERMES, LLAMA3, TABLE, family_of, reading_fences
from meshnode.engine.replies.family import Family
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.pieces import CallBegan
from tests.kit.replies import arguments, cut, fed, golden, offered, parser_of, plain, read

FAMILIES = {family.name: family for _, family in TABLE} | {GENERIC.name: GENERIC}
GOLDEN = golden()
EACH = [pytest.param(FAMILIES[name], reply, id=f"{name}: {reply['about']}") for name, reply in GOLDEN]


@pytest.mark.parametrize(("family", "reply"), EACH)
def test_a_recorded_reply_is_read_as_recorded_wherever_it_is_cut(family: Family, reply: dict[str, Any]) -> None:
    raw, pieces = reply["raw"], reply["pieces"]
    assert plain(fed(parser_of(family, reply), [raw])) == pieces, "whole"
    assert plain(fed(parser_of(family, reply), raw)) == pieces, "one character at a time"
    for place in range(1, len(raw)):
        assert plain(fed(parser_of(family, reply), [raw[:place], raw[place:]])) == pieces, f"cut at {place}"


@settings(max_examples=300)
@given(st.sampled_from(GOLDEN), st.lists(st.integers(0, 999), max_size=8))
def test_however_many_cuts_there_are(case: tuple[str, dict[str, Any]], places: list[int]) -> None:
    family, reply = FAMILIES[case[0]], case[1]
    assert plain(fed(parser_of(family, reply), cut(reply["raw"], places))) == reply["pieces"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(GOLDEN), min_size=1, max_size=3), st.lists(st.integers(0, 999), max_size=6), st.data())
def test_a_reply_with_anything_wrong_in_it_does_not_depend_on_the_cuts_either(
    cases: list[tuple[str, dict[str, Any]]], places: list[int], data: st.DataObject
) -> None:
    """Replies of all families, cut short and run into each other, with characters lost, for any family's parser."""
    raw = "".join(reply["raw"][: data.draw(st.integers(0, len(reply["raw"])))] for _, reply in cases)
    lost = data.draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=3))
    raw = "".join(letter for index, letter in enumerate(raw) if index not in lost)
    family = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)))]
    whole = fed(family.parser(tools=offered()), [raw])
    assert fed(family.parser(tools=offered()), cut(raw, places)) == whole
    for text in arguments(whole).values():
        assert begins_an_object(text)
    assert {piece.name for piece in whole if isinstance(piece, CallBegan)} <= {tool.name for tool in offered()}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@settings(max_examples=25)
@given(text=st.text(alphabet="ab é.,\n", max_size=40))
def test_text_without_marks_comes_out_as_it_is(family: Family, text: str) -> None:
    for tools in (offered(), []):
        said = "".join(words for kind, words in plain(fed(family.parser(tools=tools), text)) if kind == "said")
        assert said == text


@pytest.mark.parametrize(("family", "reply"), EACH)
def test_of_a_call_that_is_whole_the_arguments_are_whole_json(family: Family, reply: dict[str, Any]) -> None:
    for text in arguments(fed(parser_of(family, reply), [reply["raw"]])).values():
        assert begins_an_object(text)
        if not any(word in reply["about"] for word in ("cut", "stop being JSON", "is no value")):
            assert isinstance(json.loads(text), dict)


def begins_an_object(text: str) -> bool:
    """Whether something could be added to make it a JSON object."""
    scan = JsonScan("{")
    end, _ = scan.feed(text, 0)
    return end == len(text)


# --- which family a template belongs to ------------------------------------------------------------


@pytest.mark.parametrize(("marks", "family"), TABLE, ids=lambda each: each.name if isinstance(each, Family) else "")
def test_a_template_with_the_marks_of_a_row_is_of_its_family_or_a_more_specific_one(
    marks: tuple[str, ...], family: Family
) -> None:
    found = family_of("{{ messages }} " + " ".join(marks))
    rows = [row.name for _, row in TABLE]
    assert rows.index(found.name) <= rows.index(family.name)


TEMPLATES = {
    "hermes": '<tool_call>\n{"name": <function-name>}\n</tool_call>',
    "qwen3-coder": "<tool_call>\n<function=f>\n<parameter=p>",
    "glm-4": "<tool_call>{name}<arg_key>",
    "seed-oss": "<seed:tool_call><function=f><parameter=p>",
    "deepseek-r1": "<｜tool▁call▁begin｜>function\n```json",
    "deepseek-v3.1": "<｜tool▁call▁begin｜>name<｜tool▁sep｜>",
    "harmony": "<|start|>assistant<|channel|>final<|message|>",
    "mistral-args": "[TOOL_CALLS]f[ARGS]",
    "mistral": "[TOOL_CALLS][",
    "llama3": "<|python_tag|>",
    "generic": "<|im_start|>assistant",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_more_specific_marks_win(name: str) -> None:
    assert family_of(TEMPLATES[name]).name == name


def test_no_template_and_an_unknown_one_are_generic() -> None:
    assert family_of(None).name == family_of("").name == "generic"


def test_a_family_thinks_if_its_template_has_the_mark() -> None:
    assert family_of("<tool_call> <think>").thinks
    assert not family_of("<tool_call>").thinks


def test_all_families_have_a_transcript_and_a_forced_syntax() -> None:
    assert {name for name, _ in GOLDEN} == set(FAMILIES)
    assert all(any(opening.forces for opening in family.openings) for family in FAMILIES.values())


def test_no_mark_begins_another_of_its_family() -> None:
    for family in FAMILIES.values():
        marks = [mark for each in family.openings for mark in each.marks] + [*family.dropped]
        marks += [mark for each in family.thoughts for mark in (each.opens, *each.closes)]
        for one, other in itertools.permutations(set(marks), 2):
            assert not other.startswith(one), f"{family.name}: {one} begins {other}"


def test_what_may_be_a_control_token_is_shown_to_the_parser() -> None:
    assert {"<think>", "</think>", "<tool_call>", "</tool_call>"} <= set(HERMES.preserved)
    assert {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"} <= set(families.MISTRAL_ARGS.preserved)
    harmony = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"}
    assert harmony <= set(families.HARMONY.preserved)
    deepseek = {
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    }
    assert deepseek <= set(families.DEEPSEEK_R1.preserved)
    assert "<|python_tag|>" in LLAMA3.preserved


# --- what a model can do to it ----------------------------------------------------------------------

EVIL = ["<", '{"a":', "[", " ", "```", "<tool_call>", '<tool_call>{"name":', "<function=", "\\", "<think>", ">>>get_ti"]
EVIL += [
    "[TOOL_CALLS]weather[ARGS]",
    '<tool_call>{"name": "weather", "arguments": {"a":',
    "<|channel|>",
    "<|start|>to=",
]
EVIL += ["<|tool_call_start|>[weather(city=[", "<tool_call>weather<arg_key>", '```json\n{"name', "<function=weather><"]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("name", ["generic", "hermes", "qwen3-coder", "harmony", "lfm2", "functionary-v3.2"])
def test_a_reply_of_nothing_but_beginnings_takes_time_in_proportion(name: str, evil: str) -> None:
    """Ten times the text takes some ten times as long, not a hundred: counted in the reader's own steps."""
    steps = [work(FAMILIES[name], (evil * size)[:size]) for size in (2_000, 20_000)]
    assert steps[1] <= 15 * steps[0] + 1000


def work(family: Family, text: str) -> int:
    """Lines of the parser that a reply runs through, fed in tokens of four characters."""
    lines = 0

    def count(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    parser = family.parser(tools=offered())
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for start in range(0, len(text), 4):
            parser.feed(text[start : start + 4])
        parser.finish()
    finally:
        sys.settrace(before)
    return lines


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(FAMILIES)), st.lists(st.sampled_from([*EVIL, "x", "\n", '"}', "</tool_call>"]), max_size=12)
)
def test_nothing_is_raised(name: str, parts: list[str]) -> None:
    fed(FAMILIES[name].parser(tools=offered()), parts)


def test_a_family_that_was_told_to_write_fenced_json_reads_it_beside_its_own() -> None:
    fenced = '```json\n{"name": "weather", "arguments": {"a": 1}}\n```'
    own = '<tool_call>\n{"name": "weather", "arguments": {"a": 2}}\n</tool_call>'
    assert not arguments(read(HERMES, fenced, "weather"))
    both = read(reading_fences(HERMES), f"{fenced}\n{own}", "weather")
    assert arguments(both) == {0: '{"a": 1}', 1: '{"a": 2}'}
    assert reading_fences(GENERIC) is GENERIC
