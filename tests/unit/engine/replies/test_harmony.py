"""Harmony's headers, as gpt-oss writes them and as it should not."""

from __future__ import annotations

import pytest

from meshnode.engine.replies.families import HARMONY
from meshnode.engine.replies.harmony import begins
from tests.kit.replies import plain, read

PING = [["call", "call_0", "ping"], ["arguments", "{}"]]


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.ping <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.ping<|message|>",
        "<|channel|>analysis to=functions.ping json<|message|>",
        " to=functions.ping<|channel|>commentary<|message|>",
        "<|start|>assistant to=functions.ping<|channel|>commentary <|constrain|>json<|message|>",
        "<|channel|>commentary to=assistant<|channel|>commentary to=functions.ping<|message|>",
    ],
)
def test_ways_to_call(header: str) -> None:
    for end in ("", "<|call|>", "<|end|>", "\n<|call|>"):
        assert plain(read(HARMONY, f"{header}{{}}{end}")) == PING


def test_several_messages() -> None:
    again = "<|start|>assistant<|channel|>"
    raw = f"<|channel|>analysis<|message|>a<|end|>{again}analysis<|message|>b<|end|>{again}final<|message|>c<|return|>"
    assert plain(read(HARMONY, raw)) == [["thought", "ab"], ["said", "c"]]


def test_a_message_without_an_end() -> None:
    raw = "<|channel|>analysis<|message|>a<|channel|>final<|message|>b"
    assert plain(read(HARMONY, raw)) == [["thought", "a"], ["said", "b"]]


def test_what_has_no_header_is_text_and_so_is_what_is_none() -> None:
    assert plain(read(HARMONY, "Lyon.<|end|>")) == [["said", "Lyon."]]
    raw = "<|channel|>final says: Lyon, twice"
    assert plain(read(HARMONY, raw)) == [["said", raw]]


@pytest.mark.parametrize("cut", ["<|chan", "<|channel|>", "<|channel|>fin", "<|start|>assistant<|channel|>final<|mess"])
def test_a_header_that_was_cut_says_nothing(cut: str) -> None:
    assert plain(read(HARMONY, cut)) == ([] if cut != "<|chan" else [["said", cut]])
    assert plain(read(HARMONY, f"<|channel|>final<|message|>a<|end|>{cut}"))[0] == [
        "said",
        "a" + ("<|chan" if cut == "<|chan" else ""),
    ]


def test_the_message_that_a_prompt_leaves_open() -> None:
    assert begins("<|end|><|start|>assistant") == "<|start|>assistant"
    assert begins("<|start|>assistant<|channel|>final<|message|>x<|end|>") == ""
    assert begins("") == ""
