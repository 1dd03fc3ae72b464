"""Masks, and what may end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.matcher import MAX_CHOICES, Constrainer, Matcher, Vocabulary
from meshnode.errors import InvalidField
from tests.kit.constrained import BYTES, CONSTRAINER, ENDS, begins, by_schema, fits, held, refusal


def write(matcher: Matcher, text: str) -> None:
    """Accepts a text byte by byte."""
    for byte in text.encode():
        matcher.accept(byte)


def test_end_tokens_are_allowed_exactly_where_the_text_may_end() -> None:
    matcher = held(ConstraintKind.REGEX, "ab?")
    assert [int(token) for token in matcher.mask().nonzero()[0]] == [ord("a")]
    assert not matcher.may_end
    write(matcher, "a")
    assert [int(token) for token in matcher.mask().nonzero()[0]] == [ord("b"), *ENDS]
    assert (matcher.may_end, matcher.ended) == (True, False)
    write(matcher, "b")
    assert (matcher.may_end, matcher.ended) == (True, True)
    assert [int(token) for token in matcher.mask().nonzero()[0]] == [*ENDS]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_token_ends(end: int) -> None:
    matcher = held(ConstraintKind.REGEX, "ab?")
    write(matcher, "a")
    matcher.accept(end)
    assert matcher.ended
    assert matcher.forced() == ()


@pytest.mark.parametrize("token", [ord("x"), ENDS[0]])
def test_a_token_that_does_not_fit_is_called_that(token: int) -> None:
    matcher = held(ConstraintKind.REGEX, "ab")
    with pytest.raises(InvalidField, match=f"token {token} does not continue"):
        matcher.accept(token)


def test_a_fork_goes_its_own_way() -> None:
    matcher = held(ConstraintKind.CHOICE, '["ab", "ac"]')
    write(matcher, "a")
    other = matcher.fork()
    write(matcher, "b")
    assert (matcher.ended, other.ended) == (True, False)
    assert other.mask()[ord("c")]


def test_forced_tokens_are_what_must_come() -> None:
    matcher = held(ConstraintKind.CHOICE, '["hello you", "hello me"]')
    assert bytes(matcher.forced()) == b"hello "


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=6))
def test_each_choice_can_be_written_and_nothing_between(texts: list[str]) -> None:
    matcher = held(ConstraintKind.CHOICE, json.dumps(texts, ensure_ascii=False))
    assert all(fits(matcher, text) for text in texts)
    assert all(fits(matcher, text[:-1]) == (text[:-1] in texts) for text in texts if text)


def test_choices_that_share_a_first_byte_only() -> None:
    matcher = held(ConstraintKind.CHOICE, '["éa", "èb"]')
    assert fits(matcher, "éa")
    assert fits(matcher, "èb")
    assert not fits(matcher, "éb")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("[]", "at least one"),
        ('{"a": 1}', "list of texts"),
        ("[1]", "list of texts"),
        ('["\\ud800"]', "surrogate"),
        (json.dumps(["t"] * (MAX_CHOICES + 1)), str(MAX_CHOICES)),
        (json.dumps(["text" * 20] * 100_000), "bytes"),
    ],
)
def test_choices_that_are_none_are_refused(source: str, said: str) -> None:
    assert said in refusal(ConstraintKind.CHOICE, source)


def test_many_choices_and_an_empty_one_are_held() -> None:
    assert fits(held(ConstraintKind.CHOICE, json.dumps([f"t{n}" for n in range(MAX_CHOICES)])), "t9999")
    assert fits(held(ConstraintKind.CHOICE, '[""]'), "")


def test_any_object_is_one_and_nothing_else() -> None:
    matcher = held(ConstraintKind.JSON_OBJECT, "")
    assert fits(matcher, '{"a": [1, {"b": null}]}')
    assert not begins(matcher, "[")
    assert not begins(matcher, "Sure")


def test_white_space_is_what_models_write_and_ends() -> None:
    matcher = by_schema({"type": "object", "properties": {"a": {"type": "array"}}})
    assert fits(matcher, '{"a":[1,2]}')
    assert fits(matcher, '{\n  "a": [\n    1,\n\t\t2\n  ]\n}')
    for idle in ("  ", "\n\n", "\n" + " " * 33, "\n" + "\t" * 9):
        assert not begins(matcher, "{" + idle)


def test_a_tokenizer_that_writes_something_else_misleads_no_mask() -> None:
    for tokenize in (lambda text: list(f" {text}".encode()), lambda text: []):
        constrainer = Constrainer(BYTES._replace(tokenize=tokenize))
        matcher = constrainer.compile_grammar('start: "ab" ("c" | "d")')
        assert fits(matcher, "abc")
        assert bytes(matcher.forced()) == b"ab"


def test_control_tokens_are_written_by_number_and_match_no_text() -> None:
    words = [*(bytes([byte]) for byte in range(256)), b"<call>", b"<end>"]
    vocabulary = Vocabulary(
        n_vocab=258,
        piece=lambda token, special: words[token] if special or token < 256 else b"",
        ends=frozenset({257}),
        eos=257,
        is_control=lambda token: token == 256,
        tokenize=lambda text: list(text.encode()),
    )
    constrainer = Constrainer(vocabulary)
    assert [int(token) for token in constrainer.compile_grammar('start: <[256]> "f"').mask().nonzero()[0]] == [256]
    assert constrainer.compile_grammar('start: "<call>"').mask().nonzero()[0].tolist() == [ord("<")]


def test_a_schema_stands_in_a_grammar() -> None:
    rule = CONSTRAINER.json_rule('{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}')
    text = f'start: call ("\\n" call)*\ncall: "<tool_call>\\n" arguments "\\n</tool_call>"\narguments: {rule}'
    matcher = CONSTRAINER.compile_grammar(text)
    one = '<tool_call>\n{"a": 1}\n</tool_call>'
    assert fits(matcher, one)
    assert fits(matcher, f"{one}\n{one}")
    assert not fits(matcher, one.replace("1", "2"))


@pytest.mark.parametrize("source", ["start: nowhere", "start: (", ""])
def test_a_grammar_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(Exception, match="grammar"):
        CONSTRAINER.compile_grammar(source)


def test_a_text_that_meets_a_limit_fails_alone_and_says_so() -> None:
    source = 'root ::= ("a" | "aa")* ' + " ".join(['("a" | "aa" | "aaa")?'] * 1500)
    matcher = held(ConstraintKind.GRAMMAR, source)
    other = held(ConstraintKind.CHOICE, '["a"]')
    with pytest.raises(InvalidField, match="too complex"):
        begins(matcher, "a" * 500)
    assert fits(other, "a")
