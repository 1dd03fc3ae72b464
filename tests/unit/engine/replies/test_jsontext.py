"""What the scanner takes is JSON or a beginning of it, and it stops where Python's parser would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.tape import Malformed
from tests.kit.replies import cut

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def scanned(texts: list[str], first: str = '{["-0123456789tfn') -> tuple[str, bool]:
    """What came out, and whether the value is whole."""
    scan, out = JsonScan(first), ""
    for text in texts:
        at = 0
        while at < len(text) and not scan.done:
            at, made = scan.feed(text, at)
            out += made
    return out, scan.done


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.lists(st.integers(0, 200), max_size=6), st.data())
def test_a_value_is_taken_whole_however_it_comes(value: dict[str, Any], places: list[int], data: st.DataObject) -> None:
    indent, ascii_only = data.draw(st.sampled_from([None, 1])), data.draw(st.booleans())
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert scanned(cut(text + " rest", places)) == (text, True)


@given(st.text(alphabet='{}[]:,"\\ae0-.1tn \n', max_size=16))
def test_it_refuses_what_is_no_json_and_takes_what_is(text: str) -> None:
    text = "{" + text
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except ValueError:
        value, end = None, 0
    try:
        out, done = scanned([text])
    except Malformed:
        done = False
    assert done is (value is not None)
    if done:
        assert json.loads(out) == value
        assert len(out) >= end


@pytest.mark.parametrize("number", ["0", "-0", "12", "-1.5", "1e9", "2E+3", "0.5e-7"])
def test_numbers(number: str) -> None:
    assert scanned([number + ","])[0] == number
    assert scanned([*number, "]"]) == (number, True)


@pytest.mark.parametrize(
    "wrong", ["01", "1.", "-", "1e", "+1", ".5", "tru ", "nul,", "True", '"\\x"', '"\\u12g4"', "{,", "[,"]
)
def test_what_is_no_value(wrong: str) -> None:
    text = f"[{wrong}]"
    with pytest.raises(Malformed):
        scanned([text])


def test_what_was_right_comes_out_before_what_was_wrong_is_refused() -> None:
    scan = JsonScan()
    assert scan.feed('{"a": b}', 0) == (6, '{"a": ')
    with pytest.raises(Malformed):
        scan.feed('{"a": b}', 6)


def test_raw_control_characters_in_a_string_are_escaped() -> None:
    assert scanned(['{"a": "x\n\ty\x01"}']) == ('{"a": "x\\n\\ty\\u0001"}', True)


def test_only_the_beginnings_asked_for_are_taken() -> None:
    with pytest.raises(Malformed):
        scanned(["[1]"], first="{")
    with pytest.raises(Malformed):
        scanned([" {}"])


def test_nesting_has_no_bottom() -> None:
    text = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
    assert scanned([text]) == (text, True)
