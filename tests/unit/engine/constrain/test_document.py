"""Reading a constraint's JSON: what is no JSON, what is too much, and where references lead."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.constrain.document import MAX_BYTES, MAX_DEPTH, below, depth, find, load
from meshnode.errors import InvalidField, UnsupportedParameter

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def measured(value: Any) -> int:
    """How deep a value is, the obvious way."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(measured, inside), default=0)


@given(VALUES)
def test_json_is_read_and_its_depth_seen(value: Any) -> None:
    source = json.dumps(value)
    assert load(source, "x") == value
    assert depth(source) == measured(value)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("NaN", "NaN is no number"),
        ("[1e999]", "1e999 is no number"),
        ("1" * 5000, "5000 digits"),
        ('"\\ud800"', "surrogate"),
        ('"\ud800"', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ("[" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
        ('{"a":' * 100_000, "bytes"),
        (f'"{"é" * (MAX_BYTES // 2)}"', f"more than {MAX_BYTES} bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(source: str, why: str) -> None:
    with pytest.raises(InvalidField, match=why):
        load(source, "json_schema")


def test_brackets_in_strings_are_text() -> None:
    assert depth('{"a[[[\\"[[[": "{{{"}') == 1


def test_a_pointer_finds_its_place() -> None:
    root = {"$defs": {"a/b~c": {"type": "null"}, "per cent%": [1, {"x": 2}]}}
    assert find(root, "#/$defs/a~1b~0c", "x") == ({"type": "null"}, "#/$defs/a~1b~0c")
    assert find(root, "#/$defs/per%20cent%25/1/x", "x")[0] == 2
    assert find(root, "#", "x") == find(root, "", "x") == (root, "#")
    assert below("#", "a/b") == "#/a~1b"


@pytest.mark.parametrize("reference", ["other.json", "http://example.com/s", "#name", "file:///etc/passwd", "urn:a:b"])
def test_what_is_elsewhere_is_never_fetched(reference: str) -> None:
    with pytest.raises(UnsupportedParameter, match="only places in the same schema"):
        find({}, reference, "json_schema: $ref at #")


@pytest.mark.parametrize("reference", ["#/a", "#/b/2", "#/b/01", "#/b/-1", "#/b/0/x"])
def test_a_pointer_that_leads_nowhere_is_named(reference: str) -> None:
    with pytest.raises(InvalidField, match="nothing stands there"):
        find({"b": [1, 2]}, reference, "json_schema: $ref at #")
