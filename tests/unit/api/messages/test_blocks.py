"""Blocks of one message become parts, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.messages.blocks import UNSERVED, block, kind_of, parts, sign
from meshnode.domain import ReasoningPart, TextPart
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter

ALL = ("text", "thinking", "redacted_thinking", "document", "search_result", "tool_reference")
CACHED = {"type": "ephemeral", "ttl": "1h"}


def one(raw: dict[str, Any]) -> str:
    """The text of a block that is one part."""
    (part,) = block(raw, "x", ALL)
    assert isinstance(part, TextPart)
    return part.text


def test_text_is_text_whatever_stands_beside_it() -> None:
    assert one({"type": "text", "text": "a", "cache_control": CACHED, "citations": None}) == "a"
    assert parts("a", "x", ("text",)) == (TextPart("a"),)


def test_a_thought_comes_back_with_its_signature() -> None:
    raw = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert block(raw, "x", ALL) == (ReasoningPart("hm", "s"),)
    assert block({"type": "redacted_thinking", "data": "sealed"}, "x", ALL) == ()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_thought_that_was_not_told_comes_back_out_of_its_signature(thought: str) -> None:
    untold = {"type": "thinking", "thinking": "", "signature": sign(thought, omitted=True)}
    (part,) = block(untold, "x", ALL)
    assert isinstance(part, ReasoningPart)
    assert part.text == thought
    assert thought == "" or sign(thought, omitted=False) == sign(thought, omitted=False)


@pytest.mark.parametrize("signature", ["", "mesh1.", "mesh1.%", "mesh1.gA==", "mesh0.abc", "EqQBCgIYAhIM"])
def test_of_another_signature_no_thought_comes(signature: str) -> None:
    assert block({"type": "thinking", "thinking": "", "signature": signature}, "x", ALL) == ()


def test_a_document_of_text_is_told_with_its_title() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "body"}
    raw = {"type": "document", "source": source, "title": 'a "b"', "context": "c", "citations": {"enabled": False}}
    assert one(raw) == '<document title="a &quot;b&quot;">\nc\nbody\n</document>'
    blocks = {"type": "content", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]}
    assert one({"type": "document", "source": blocks}) == "<document>\n1\n2\n</document>"


def test_a_search_result_is_told_with_its_source() -> None:
    raw = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "found"}]}
    assert one(raw) == '<search_result title="t" source="s">\nfound\n</search_result>'


def test_a_tool_that_was_found_is_named() -> None:
    assert one({"type": "tool_reference", "tool_name": "f"}) == "The tool f is on offer."


@pytest.mark.parametrize("kind", sorted(UNSERVED))
def test_what_nobody_here_can_take_is_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        parts([{"type": "text", "text": "a"}, {"type": kind}], "messages[0].content", ALL)
    assert caught.value.param == f"messages[0].content[1].{kind}"


@pytest.mark.parametrize(
    ("raw", "error", "param"),
    [
        ({"type": "text"}, InvalidField, "x.text"),
        ({"type": "text", "text": 1}, InvalidField, "x.text"),
        ({"type": "text", "text": "a", "txt": "b"}, UnknownField, "x.txt"),
        ({"type": "texts", "text": "a"}, InvalidField, "x.type"),
        ({"type": 3}, InvalidField, "x.type"),
        ({}, InvalidField, "x.type"),
        ({"type": "document", "source": {"type": "base64"}}, UnsupportedParameter, "x.source.type"),
        ({"type": "document", "source": {"type": "url"}}, UnsupportedParameter, "x.source.type"),
        ({"type": "document", "source": {"type": "y"}}, InvalidField, "x.source.type"),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "image"}]}}, UnsupportedParameter,
         "x.source.content[0].image"),
        ({"type": "search_result", "source": "s", "title": "t", "content": [], "citations": {"enabled": True}},
         UnsupportedParameter, "x.citations"),
    ],
)  # fmt: skip
def test_errors_name_the_place(raw: dict[str, Any], error: type[RequestError], param: str) -> None:
    with pytest.raises(error) as caught:
        block(raw, "x", ALL)
    assert caught.value.param == param


def test_a_block_in_the_wrong_place_is_told_what_may_stand_there() -> None:
    with pytest.raises(InvalidField, match=r"x\.type: \"thinking\" is not allowed\. Allowed: text or document\."):
        kind_of({"type": "thinking"}, "x", ("text", "document"))
