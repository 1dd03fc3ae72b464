"""What the grammars' writer writes is what llguidance reads."""

from __future__ import annotations

import pytest

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import ANY_TEXT, Lark
from tests.kit.replies import Bytes, accepts


def test_text_is_taken_literally() -> None:
    for text in ('a "b" \\ \n\t {x} /y/ <z> %json é', "[1]", "//"):
        lark = Lark({}, forced=True)
        assert accepts(lark.grammar(lark.text(text)), text, Bytes())


def test_control_tokens_are_written_by_number() -> None:
    tokens = Bytes(["<a>", "<a>b"])
    lark = Lark(tokens.control, forced=True)
    assert lark.text("x<a>by<a>") == '"x" <[258]> "y" <[257]>'
    assert accepts(lark.grammar(lark.text("x<a>by<a>")), "x<a>by<a>", tokens)
    assert lark.text("") == ""


def test_rules_have_names_of_their_own() -> None:
    lark = Lark({}, forced=True)
    names = {lark.rule("r", '"a"') for _ in range(3)}
    assert len(names) == 3
    assert accepts(lark.grammar(" ".join(sorted(names))), "aaa", Bytes())


@pytest.mark.parametrize("control", [(), ("</x>",)])
def test_any_text_up_to_a_mark(control: tuple[str, ...]) -> None:
    tokens = Bytes(control)
    lark = Lark(tokens.control, forced=True)
    grammar = lark.grammar(f"{lark.up_to('</x>')} {lark.rule('rest', ANY_TEXT)}")
    assert accepts(grammar, "a </ b\n</x>c", tokens)
    assert not accepts(grammar, "a </ b", tokens)


SCHEMA = (
    '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'
)


@pytest.mark.parametrize(("strict", "forced"), [(True, False), (False, True), (False, False)])
def test_arguments_follow_the_schema_of_strict_tools_and_of_calls_that_are_forced(strict: bool, forced: bool) -> None:
    lark = Lark({}, forced=forced)
    grammar = lark.grammar(lark.arguments(Tool(name="f", parameters=SCHEMA, strict=strict)))
    assert accepts(grammar, '{"a": 1}', Bytes())
    assert accepts(grammar, '{"b": "x"}', Bytes()) is not (strict or forced)
    assert not accepts(grammar, "[1]", Bytes())


def test_a_tool_without_a_schema_takes_any_object() -> None:
    lark = Lark({}, forced=True)
    grammar = lark.grammar(lark.arguments(Tool(name="f")))
    assert accepts(grammar, "{}", Bytes())
    assert accepts(grammar, '{"x": [1]}', Bytes())
    assert not accepts(grammar, '"x"', Bytes())


def test_a_value_is_written_in_one_way() -> None:
    lark = Lark({}, forced=True)
    grammar = lark.grammar(lark.arguments(Tool(name="f", parameters=SCHEMA, strict=True)))
    assert not accepts(grammar, '{ "a" :1}', Bytes())
