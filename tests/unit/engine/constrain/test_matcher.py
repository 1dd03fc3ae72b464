"""The door to the library: masks, ends, forks, control tokens, limits, and the grammars for forced calls."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.matcher import MAX_CHOICES, Constrainer, Matcher, Vocabulary
from meshnode.errors import InvalidField, RequestError
from tests.kit.constraints import BYTES, EOS, EOT, MARK, complaint, constraint, fits, leads, refusal, schema, written

CONSTRAINER = Constrainer(BYTES)
CHOICE, REGEX, OBJECT = ConstraintKind.CHOICE, ConstraintKind.REGEX, ConstraintKind.JSON_OBJECT


def allowed(matcher: Matcher) -> list[int]:
    """Tokens that may come next."""
    return [int(token) for token in np.flatnonzero(matcher.mask())]


def test_a_mask_has_every_way_to_go_on() -> None:
    matcher = CONSTRAINER.compile(constraint(CHOICE, ["abc", "x"]))
    mask = matcher.mask()
    assert mask.shape == (BYTES.n_vocab,)
    assert mask.dtype == np.bool_
    assert allowed(matcher) == [ord("a"), ord("x"), 259]  # 259 is "ab"


def test_every_end_token_is_allowed_where_the_text_may_end_and_nowhere_else() -> None:
    matcher = CONSTRAINER.compile(constraint(CHOICE, ["a", "ab"]))
    assert not {EOS, EOT} & set(allowed(matcher))
    assert (matcher.may_end, matcher.ended) == (False, False)
    matcher.accept(ord("a"))
    assert allowed(matcher) == [ord("b"), EOS, EOT]
    assert (matcher.may_end, matcher.ended) == (True, False)
    for end in (EOS, EOT):
        there = matcher.fork()
        there.accept(end)
        assert there.ended
    matcher.accept(ord("b"))
    assert matcher.ended
    assert allowed(matcher) == [EOS, EOT]


def test_a_fork_goes_its_own_way() -> None:
    one = CONSTRAINER.compile(constraint(CHOICE, ["ax", "ay"]))
    one.accept(ord("a"))
    other = one.fork()
    one.accept(ord("x"))
    assert one.ended
    assert allowed(other) == [ord("x"), ord("y")]


def test_a_token_that_was_not_allowed_fails_this_text_only() -> None:
    matcher = CONSTRAINER.compile(constraint(CHOICE, ["a"]))
    beside = matcher.fork()
    with pytest.raises(InvalidField, match="choice"):
        matcher.accept(ord("z"))
    with pytest.raises(InvalidField):
        matcher.mask()
    assert not matcher.ended
    assert allowed(beside) == [ord("a")]


def test_control_tokens_are_no_text() -> None:
    matcher = CONSTRAINER.compile(constraint(REGEX, r"[\s\S]*"))
    assert not matcher.mask()[MARK]
    assert leads(matcher, "[TOOL]")


def test_forced_tokens_are_the_models_own() -> None:
    knowing = Constrainer(BYTES._replace(tokenize=lambda text: list(text)))
    matcher = knowing.compile(constraint(CHOICE, ["hello", "help"]))
    assert bytes(matcher.forced()) == b"he"
    assert CONSTRAINER.compile(constraint(CHOICE, ["hello"])).forced() == ()
    assert set(allowed(matcher)) == {ord("h")}


# --- kinds ------------------------------------------------------------------------------------


def test_a_json_object_is_any_object() -> None:
    matcher = CONSTRAINER.compile(constraint(OBJECT, ""))
    assert fits(matcher, '{"a": [1, {"b": null}], "é\\n": "\\u00e9"}'.replace("\\u00e9", "é"))
    assert not leads(matcher, "[")
    assert not leads(matcher, " ")


def test_white_space_is_what_people_write_and_has_an_end() -> None:
    matcher = CONSTRAINER.compile(constraint(OBJECT, ""))
    value = {"a": [1, {"b": 2}], "c": {}}
    for indent in (None, 2, 4, "\t"):
        assert fits(matcher, json.dumps(value, indent=indent))
    assert fits(matcher, json.dumps(value, separators=(",", ":")))
    assert not leads(matcher, "{  ")
    assert not leads(matcher, "{\n" + " " * 33)
    assert not leads(matcher, "{\n\n")


def test_choices_may_be_any_text() -> None:
    listed = ["", "yes", "nul \0", "é😀", "a/b\\\n", '"', "a|b", "(.*)"]
    matcher = CONSTRAINER.compile(constraint(CHOICE, listed))
    assert all(fits(matcher, text) for text in listed)
    assert not fits(matcher, "a")


@pytest.mark.parametrize("source", ["", "[]", '"a"', "[1]", '["\\ud800"]', "{}", json.dumps(["x"] * (MAX_CHOICES + 1))])
def test_choices_that_are_none_are_refused(source: str) -> None:
    assert refusal(CONSTRAINER, constraint(CHOICE, source)).startswith("choice")


# --- forced calls -----------------------------------------------------------------------------

CALLS = (
    'start: call ("\\n" call)*\n'
    'call: "<tool_call>\\n{\\"name\\": \\"f\\", \\"arguments\\": " arguments "}\\n</tool_call>"\n'
)


def test_calls_can_be_forced_in_qwens_form() -> None:
    rule = CONSTRAINER.json_rule('{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}')
    matcher = CONSTRAINER.compile_grammar(f"{CALLS}arguments: {rule}")
    call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert fits(matcher, call)
    assert fits(matcher, f"{call}\n{call}")
    assert not leads(matcher, call.replace("1", '"1"'))
    assert not leads(matcher, "{")


def test_calls_can_be_forced_after_a_control_token() -> None:
    rule = CONSTRAINER.json_rule('{"type": "array", "items": {"type": "null"}}')
    matcher = CONSTRAINER.compile_grammar(f'start: <[{MARK}]> "f" "[ARGS]" arguments\narguments: {rule}')
    assert allowed(matcher) == [MARK]
    matcher.accept(MARK)
    assert fits(matcher, "f[ARGS][null, null]")


def test_several_functions_keep_their_own_parameters() -> None:
    rules = [CONSTRAINER.json_rule(f'{{"type": "{kind}"}}') for kind in ("integer", "null")]
    grammar = f'start: "f(" a ")" | "g(" b ")"\na: {rules[0]}\nb: {rules[1]}'
    matcher = CONSTRAINER.compile_grammar(grammar)
    assert fits(matcher, "f(12)")
    assert fits(matcher, "g(null)")
    assert not leads(matcher, "f(n")
    assert not leads(matcher, "g(1")


def test_text_before_a_mark_is_lazy() -> None:
    matcher = CONSTRAINER.compile_grammar('start: thought "42"\nthought[lazy]: /(.|\\n)*<\\/think>/')
    assert fits(matcher, "so\nit <b> is</think>42")
    assert not fits(matcher, "no mark 42")


def test_a_grammar_that_is_none_says_so() -> None:
    with pytest.raises(InvalidField, match="grammar"):
        CONSTRAINER.compile_grammar("start: gone")


# --- bounds -----------------------------------------------------------------------------------

BOMBS = [
    schema({"allOf": [{"anyOf": [{"required": [f"p{i}{j}"]} for j in range(12)]} for i in range(12)]}),
    schema({"type": "string", "pattern": "(.*a.*){20}", "minLength": 100}),
    schema({"type": "string", "pattern": "^([a-z]{0,100}){0,100}$"}),
    schema({"type": "string", "allOf": [{"pattern": f"a{{{n}}}.*b"} for n in range(1, 12)]}),
    schema({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1000)}}),
    schema({"enum": [f"value {n}" for n in range(5000)]}),
    schema({"type": "array", "minItems": 20_000, "items": {"type": "array", "minItems": 20_000}}),
    schema({"type": "string", "minLength": 20_000}),
    constraint(CHOICE, [f"choice {n}" for n in range(MAX_CHOICES)]),
    constraint(REGEX, "(a|b)*a(a|b){200}"),
    constraint(REGEX, "(.*)*" * 100),
    constraint(REGEX, "a|" * 9_000 + "b"),
    constraint(ConstraintKind.GRAMMAR, "root ::= ([a-z]* [a-z]* [a-z]*)*"),
    constraint(
        ConstraintKind.GRAMMAR, "".join(f"r{n} ::= r{n + 1} r{n + 1}\n" for n in range(60)) + 'r60 ::= "a"\nroot ::= r0'
    ),
]


def failure(matcher: Matcher) -> str:
    """The message with which a matcher gave up while a text was written; empty where it did not."""
    try:
        written(matcher, 1, most=100)
    except RequestError as error:
        return error.message
    return ""


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_a_bomb_is_held_or_refused_soon_and_fails_alone(number: int) -> None:
    began = time.process_time()
    said = complaint(CONSTRAINER, BOMBS[number])
    if not said:
        said = failure(CONSTRAINER.compile(BOMBS[number]))
    assert not said or "too complex" in said
    assert time.process_time() - began < 5, "a second is the aim; a busy machine gets five"
    assert fits(CONSTRAINER.compile(constraint(CHOICE, ["fine"])), "fine")


def test_a_vocabulary_may_lack_what_the_text_needs() -> None:
    pieces = [b"a", b"b", b"</s>"]
    poor = Vocabulary(
        3, lambda token, special: pieces[token] if token < 2 or special else b"", {2}, 2, lambda t: t == 2
    )
    assert fits_tokens(Constrainer(poor).compile(constraint(CHOICE, ["ab"])), [0, 1, 2])
    assert "no text fits" in refusal(Constrainer(poor), constraint(CHOICE, ["xyz"]))


def fits_tokens(matcher: Matcher, tokens: list[int]) -> bool:
    """Whether the tokens follow one another and end the text."""
    for token in tokens:
        if not matcher.mask()[token]:
            return False
        matcher.accept(token)
    return matcher.ended
