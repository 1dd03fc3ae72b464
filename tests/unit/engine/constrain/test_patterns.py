"""Regular expressions in one dialect."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.patterns import MAX_LENGTH, rewrite
from meshnode.errors import InvalidField, UnsupportedParameter
from tests.kit.constrained import begins, fits, held, refusal, takes

ATOMS = st.sampled_from(["a", "é", "[ab]", "[^a]", ".", r"\d", r"\w", r"\.", "[a-c-]", r"\u00e9", r"\x61", r"[\d_]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("".join, st.lists(inner, min_size=1, max_size=3))
        | st.builds("(?:{}|{})".format, inner, inner)
        | st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"]))
    ),
    max_leaves=5,
)
TEXTS = st.text("abcé.1_-\n", max_size=5)


@given(PATTERNS, st.lists(TEXTS, max_size=5))
def test_the_same_texts_match_as_in_python(pattern: str, texts: list[str]) -> None:
    matcher = held(ConstraintKind.REGEX, pattern)
    for text in texts:
        assert fits(matcher, text) == bool(re.fullmatch(pattern, text, re.ASCII)), text


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    matcher = held(ConstraintKind.CHOICE, json.dumps([text], ensure_ascii=False))
    assert fits(matcher, text)
    assert not fits(matcher, text + "x")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("*a", "repeats nothing"),
        ("a**", "repeats a repetition"),
        ("a{3,2}", "wrong way round"),
        ("[]", "empty"),
        ("[b-a]", "range"),
        (r"\q", "no escape"),
        ("\\", "too early"),
        ("[a", "too early"),
        (r"\ud800", "no character"),
        (r"\x4", "hexadecimal"),
        ("^*", "cannot be repeated"),
        ("a" * (MAX_LENGTH + 1), str(MAX_LENGTH)),
        ("(a{1000}){1000}", "too complex"),
        ("(" * 60 + ")" * 60, "deep"),
    ],
)
def test_what_is_wrong_is_said(pattern: str, said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        rewrite(pattern, "pattern at #")
    assert caught.value.message.startswith("pattern at #")
    assert said in caught.value.message


@pytest.mark.parametrize("pattern", ["(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"(a)\1", r"\ba", r"\Ba", "(?i)a", r"\k<a>"])
def test_what_is_not_held_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedParameter, match="cannot be held"):
        rewrite(pattern, "pattern at #")


def test_anchors_of_a_whole_text_say_nothing_at_its_ends() -> None:
    assert fits(held(ConstraintKind.REGEX, "^ab$"), "ab")
    assert fits(held(ConstraintKind.REGEX, "^a$|^b$"), "b")
    assert "inside the pattern" in refusal(ConstraintKind.REGEX, "a^b")


def test_a_schemas_pattern_matches_anywhere_unless_anchored() -> None:
    assert takes({"type": "string", "pattern": "b"}, "abc")
    assert not takes({"type": "string", "pattern": "^b$"}, "abc")


def test_pydantics_decimal_pattern_is_held() -> None:
    schema = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}
    assert [takes(schema, text) for text in ("1.5", "-3", ".5", "+.", "", "1.2.3")] == [True] * 3 + [False] * 3


def test_nested_repetition_costs_nothing() -> None:
    assert begins(held(ConstraintKind.REGEX, "(a|a)*(a+)+(a*)*b"), "a" * 500)
