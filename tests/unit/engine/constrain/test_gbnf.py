"""GBNF means here what it means to llama.cpp: compared with a recogniser that tries everything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.gbnf import MAX_NODES, to_lark
from meshnode.engine.constrain.matcher import Constrainer
from meshnode.errors import UnsupportedParameter
from tests.kit.constraints import BYTES, complaint, constraint, fits, leads, refusal

CONSTRAINER = Constrainer(BYTES)

ITEMS = st.recursive(
    st.sampled_from(['"a"', '"ab"', '"abc"', '""', "[ab]", "[^a]", ".", '"b"', "[a-c]"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({' '.join(each)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({' | '.join(each)})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda each: f"({each[0]}){each[1]}"),
        st.tuples(inner, st.sampled_from(["{2}", "{0,2}", "{1,}"])).map(lambda each: f"({each[0]}){each[1]}"),
    ),
    max_leaves=6,
)


def as_pattern(item: str) -> str:
    """A grammar without names as a regular expression, which backtracks: it finds a way where there is one."""
    return re.sub(r'"([a-c]*)"', r"(?:\1)", item).replace(" | ", "|").replace(" ", "")


@given(ITEMS, st.text("abc", max_size=6))
@settings(max_examples=200)
def test_every_way_to_read_a_text_is_tried(item: str, text: str) -> None:
    matcher = CONSTRAINER.compile(constraint(ConstraintKind.GRAMMAR, f'root ::= {item} "."'))
    assert fits(matcher, text + ".") == (re.fullmatch(as_pattern(item) + r"\.", text + ".", re.DOTALL) is not None)


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "a" "bc" | "ab" "d"', "abc", "abcd"),
        ('root ::= [a-z]* "b"', "abb", "a"),
        ('root ::= root "a" | "b"', "baa", "a"),
        ('root ::= "a" root | ""', "aaa", "b"),
        ('root ::= ("a"? | "")* "x"', "aax", "a"),
        ('# about\nroot ::= x # and\n\nx ::= (\n  "q" |\n  "r"\n)+\n', "qrq", "x"),
        ('root ::= a-b\na-b ::= "\\x41\\u00e9\\U0001F600\\n\\"\\\\"', 'Aé😀\n"\\', "A"),
        ("root ::= [\\]\\[^-]+", "^-][", "a"),
        ("root ::= [^\\n]+ . ", "ab\n", "\n"),
        ('root ::= "a"{2,3} "b"{2} "c"{1,}', "aabbc", "abbc"),
        ('root  ::=\n "x"\r\n', "x", "y"),
        ('root ::= "say" | "so" | "tell"', "tell", "t"),
        ('root ::= expr\nexpr ::= term ("+" term)*\nterm ::= [0-9]+ | "(" expr ")"', "1+(2+34)", "1+"),
    ],
)
def test_a_grammar_is_read(grammar: str, good: str, bad: str) -> None:
    matcher = CONSTRAINER.compile(constraint(ConstraintKind.GRAMMAR, grammar))
    assert fits(matcher, good)
    assert not fits(matcher, bad)


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ("", "no rule root"),
        ('start ::= "a"', "no rule root"),
        ("root ::= gone", "root names gone"),
        ("root ::= root", "rule root never ends"),
        ('root ::= a b\na ::= b "x"\nb ::= a', "never ends"),
        ('root ::= "a"\nroot ::= "b"', "line 2: rule root is defined twice"),
        ('root ::= "a', "ends too early"),
        ("root ::= [a", "ends too early"),
        ("root ::= []", "is empty"),
        ("root ::= [b-a]", "range that is none"),
        ('root ::= ("a"', "a ) is missing"),
        ('root ::= "a")', "')' was not expected"),
        ('root = "a"', "::= was expected"),
        ('root ::= "\\q"', "is no escape"),
        ('root ::= "\\ud800"', "names no character"),
        ('root ::= "\ud800"', "surrogate"),
        ('root ::= "a"{3,2}', "wrong way round"),
        ('root ::= "a"{3000}', "too complex"),
        ('root ::= ("a"{99}){99}', "too complex"),
        (f"root ::= {'(' * 100_000}", "too complex"),
        (f"root ::= {'a ' * (MAX_NODES + 1)}", "too complex"),
        ("x" * 300_000, "too complex"),
        ("root ::= <no-such-token>", "cannot be held"),
    ],
)
def test_what_is_wrong_is_said(grammar: str, said: str) -> None:
    assert said in refusal(CONSTRAINER, constraint(ConstraintKind.GRAMMAR, grammar))


def test_tokens_may_be_named_but_not_excluded() -> None:
    matcher = CONSTRAINER.compile(constraint(ConstraintKind.GRAMMAR, 'root ::= <[258]> "x" | <[257]> "y"'))
    assert matcher.mask()[258]
    assert not leads(matcher, "[TOOL]")
    with pytest.raises(UnsupportedParameter, match="!"):
        to_lark("root ::= !<[258]>")


@given(st.text('root ::=\n"a[]()|*+?{},1-^\\#<>!.', max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    said = complaint(CONSTRAINER, constraint(ConstraintKind.GRAMMAR, f"root ::= {text}"))
    assert not said or said.startswith("grammar")
