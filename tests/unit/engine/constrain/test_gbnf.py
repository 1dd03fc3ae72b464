"""llama.cpp's grammars."""

from __future__ import annotations

import pytest

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.gbnf import MAX_NODES, to_lark
from meshnode.errors import RequestError
from tests.kit.constrained import fits, held

SUMS = """
# sums with brackets
root  ::= sum "\\n"?
sum   ::= part (
    [-+] part   # over several lines
)*
part  ::= [0-9]+ | "(" sum ")"
"""


def taken(grammar: str, text: str) -> bool:
    """Whether a text is in a grammar's language."""
    return fits(held(ConstraintKind.GRAMMAR, grammar), text)


@pytest.mark.parametrize(
    ("text", "fit"), [("1+(2-30)", True), ("((1))\n", True), ("1+", False), ("(1", False), ("", False)]
)
def test_recursion_and_lines(text: str, fit: bool) -> None:
    assert taken(SUMS, text) is fit


@pytest.mark.parametrize(
    ("grammar", "texts", "others"),
    [
        ('root ::= "a" "bc" | "ab" "d"', ["abc", "abd"], ["ab", "abcd"]),
        ('root ::= "a"{2,3} "b"{2} "c"{1,} "d"{0,1}', ["aabbc", "aaabbccd"], ["abbc", "aabbcdd"]),
        ("root ::= [^a-c\\n] .", ["dé", "é\n"], ["aa", "d"]),
        ('root ::= "\\x41\\u00e9\\U0001F600\\t\\"\\\\"', ['Aé😀\t"\\'], ["A"]),
        ('root ::= [\\]\\[^a-]+', ["]^-a["], ["b"]),
        ('root ::= a? a\na ::= "x" | ""', ["", "x", "xx"], ["xxx"]),
        ('root ::= root "a" | "b"', ["b", "baa"], ["a", ""]),
        ('root ::= (("a"?)*)*', ["", "aaa"], ["b"]),
        ('root ::= "if" | "ifs" | [a-z]+ "!"', ["if", "ifs", "if!", "x!"], ["i", "ifsx"]),
        ('root ::= ""', [""], ["a"]),
        ('root ::= x-1\r\nx-1 ::= "a" |\r\n "b"', ["a", "b"], [""]),
    ],
)  # fmt: skip
def test_what_a_grammar_can_say(grammar: str, texts: list[str], others: list[str]) -> None:
    assert [text for text in texts if not taken(grammar, text)] == []
    assert [text for text in others if taken(grammar, text)] == []


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ("", "no rule root"),
        ('start ::= "a"', "no rule root"),
        ("root ::= x", "names x"),
        ("root ::= root", "never ends"),
        ('root ::= "a" b\nb ::= "c" b', "rule root never ends"),
        ('root ::= "a', "too early"),
        ("root ::= [a", "too early"),
        ("root ::= []", "empty"),
        ("root ::= [b-a]", "range"),
        ('root ::= ("a"', ") is missing"),
        ('root ::= "a" )', "not expected"),
        ('root ::= "\\q"', "no escape"),
        ('root ::= "\\ud800"', "no character"),
        ('root ::= "a"{3,2}', "wrong way"),
        ('root ::= ("a"{100}){100}', "too complex"),
        ("root = 1", "::= was expected"),
        ('root ::= "a"\nroot ::= "b"', "line 2: rule root is defined twice"),
        ('root ::= !<[1]>', "cannot be excluded"),
        ("root ::= " + "(" * 60 + ")" * 60, "deep"),
        ("root ::= " + "a " * (MAX_NODES + 1), str(MAX_NODES)),
        ('root ::= "\ud800"', "surrogate"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(grammar: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        to_lark(grammar)
    assert caught.value.message.startswith("grammar")
    assert said in caught.value.message


def test_a_token_can_be_named_by_number() -> None:
    matcher = held(ConstraintKind.GRAMMAR, 'root ::= <[98]> "c"')
    assert fits(matcher, "bc")
