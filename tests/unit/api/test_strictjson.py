"""JSON bodies: what is refused, and that nothing else is."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api.strictjson import MAX_DEPTH, describe, parse_object, shorten
from meshnode.errors import MalformedBody

strings = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(strings, values), st.booleans())
def test_everything_that_json_can_say_is_read_as_it_was_meant(value: dict[str, Any], ascii_only: bool) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_typed_error(body: bytes) -> None:
    with suppress(MalformedBody):
        assert isinstance(parse_object(body), dict)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "an empty array"),
        (b'"x"', "a string"),
        (b"null", "null"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"b": {"a": 1, "c": 2, "a": 3}}', '"a" twice'),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 400 + b".0}", "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "thousands of digits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": [{"b": "\\ud83dx"}]}', "surrogate"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
    ],
)
def test_what_has_no_one_meaning_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(MalformedBody, match=said):
        parse_object(body)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded_before_parsing(opening: bytes, closing: bytes) -> None:
    depth = MAX_DEPTH - 1
    parse_object(b'{"x": ' + opening * depth + b"1" + closing * depth + b"}")
    for body in (opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH, opening * 1_000_000):
        with pytest.raises(MalformedBody, match="deeper than 64"):
            parse_object(b'{"x": ' + body + b"}")


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[" * 1000 + '\\"' + "{" * 1000
    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}


def test_a_flood_of_containers_is_refused() -> None:
    with pytest.raises(MalformedBody, match="more than 1000000"):
        parse_object(b'{"a": [' + b"[]," * 1_000_001 + b"[]]}")


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 2_000_000, b'{"a": ' + b'"' * 1_000_001, b'{"a":"' + b"\\" * 2_000_001]
)
def test_unclosed_strings_take_no_longer_than_others(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_object(body)


def test_errors_never_quote_what_was_said() -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_object(b'{"messages": [{"content": "my secret", }]}')
    assert "secret" not in str(caught.value)


def test_values_are_described_and_shortened_for_messages() -> None:
    assert [describe(value) for value in (None, True, 0, 1.5, "", "x", [], [1], {}, {"a": 1})] == [
        "null",
        "a boolean",
        "a number",
        "a number",
        "an empty string",
        "a string",
        "an empty array",
        "an array",
        "an empty object",
        "an object",
    ]
    assert shorten("a\n\u202e" + "x" * 100) == '"a\\n\\u202e' + "x" * 37 + "…"


def test_a_name_that_comes_twice_in_a_large_object_is_found_at_once() -> None:
    names = ",".join(f'"{number}":1' for number in range(100_000))
    began = time.process_time()
    with pytest.raises(MalformedBody, match='"99999" twice'):
        parse_object(f'{{{names},"99999":2}}'.encode())
    assert time.process_time() - began < 10, "a search that is quadratic takes minutes"
