"""Patterns keep their meaning on the way to the engine, or are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.matcher import Constrainer
from meshnode.engine.constrain.patterns import MAX_LENGTH, escaped, rewrite
from meshnode.errors import InvalidField, UnsupportedParameter
from tests.kit.constraints import BYTES, complaint, constraint, fits

CONSTRAINER = Constrainer(BYTES)

ATOMS = ["a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", r"\.", r"[\d-]", "(?:a|b)", "(b)", "", "[a-c]"]
PATTERNS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map(
            lambda each: f"(?:{each[0]}){each[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text("ab1.-c\n", max_size=4))
@settings(max_examples=150)
def test_a_pattern_takes_what_python_takes(pattern: str, text: str) -> None:
    matcher = CONSTRAINER.compile(constraint(ConstraintKind.REGEX, f"{pattern}x"))
    assert fits(matcher, text + "x") == (re.fullmatch(f"(?:{pattern})x", text + "x", re.ASCII) is not None)


@given(st.text(min_size=1, max_size=8))
def test_escaped_text_matches_itself_alone(text: str) -> None:
    matcher = CONSTRAINER.compile(constraint(ConstraintKind.CHOICE, [text]))
    assert fits(matcher, text)
    assert not fits(matcher, text + "x")
    assert rewrite(re.escape(text) if text.isascii() else text[:0], "r") is not None
    assert re.fullmatch(r"(?:[0-9A-Za-z]|\\x\{[0-9A-F]+\})+", escaped(text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\u0061\x62", "ab"),
        (r"\u{1F600}", "😀"),
        (r"\ud83d\ude00", "😀"),
        (r"\cJ", "\n"),
        (r"[\b]", "\b"),
        (r"\p{L}+", "é"),
        (r"(?<year>\d{4})", "1999"),
        (r"{a}", "{a}"),
        (r"\/\-", "/-"),
        (r"^a|bc$", "bc"),
        (r"[&&~~-]+", "&~-"),
        (r"[^\S]", "\u00a0"),
    ],
)
def test_what_ecma_writes_is_read(pattern: str, text: str) -> None:
    assert fits(CONSTRAINER.compile(constraint(ConstraintKind.REGEX, pattern)), text)


@pytest.mark.parametrize(("pattern", "text"), [(".", "\r"), (r"\d", "٣"), (r"\w", "é"), ("[[:alpha:]]", "x")])
def test_what_other_dialects_mean_is_not_meant(pattern: str, text: str) -> None:
    assert not fits(CONSTRAINER.compile(constraint(ConstraintKind.REGEX, pattern)), text)


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(?!a)", "(?<=a)b", r"(a)\1", r"\bfoo", "(?i)a", r"\k<n>", "a^b", "(^a)"]
)
def test_what_looks_around_or_back_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedParameter, match="cannot be held"):
        rewrite(pattern, "regex", whole=True)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[a",
        "[]",
        "a**",
        "a++",
        "*a",
        "a{2,1}",
        "\\",
        "[z-a]",
        r"[\d-z]",
        r"\z",
        r"\u12",
        r"\ud800",
        "^*",
        "a{1}{2}",
    ],
)
def test_what_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidField, match="pattern at #"):
        rewrite(pattern, "pattern at #")


@pytest.mark.parametrize(
    "pattern", ["(a{1000}){1000}", "((a{99}){99}){99}", "(" * 51 + ")" * 51, "a" * (MAX_LENGTH + 1), "a{999999999}"]
)
def test_bombs_are_counted_before_anything_is_built(pattern: str) -> None:
    with pytest.raises(InvalidField, match="too complex"):
        rewrite(pattern, "pattern")


@given(st.text("ab(|)[]{}*+?^$\\.,-12xu", max_size=12))
def test_any_text_is_read_or_refused(pattern: str) -> None:
    said = complaint(CONSTRAINER, constraint(ConstraintKind.REGEX, pattern))
    assert not said or said.startswith("regex")
