"""Constraints' JSON, read within bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.constrain.document import MAX_BYTES, MAX_DEPTH, below, depth, find, load
from meshnode.errors import InvalidField, UnsupportedParameter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(VALUES)
def test_json_within_bounds_is_read_as_it_is(value: object) -> None:
    assert load(json.dumps(value), "schema") == value


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{", "not JSON"),
        ("[NaN]", "NaN is no number"),
        ("1e999", "1e999 is no number"),
        ("9" * 50, "50 digits"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ("[" * (MAX_DEPTH + 1), "deep"),
        ('"' + "é" * MAX_BYTES + '"', str(MAX_BYTES)),
        ("[" * 200_000, "deep"),
    ],
)
def test_what_is_no_json_or_too_much_is_refused_by_name(source: str, said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        load(source, "schema")
    assert "schema" in caught.value.message
    assert said in caught.value.message


def test_brackets_in_strings_are_no_depth() -> None:
    assert depth('{"a[[[": "]\\"{{{"}') == 1
    assert depth("[[{}]]") == 3


def test_a_pointer_leads_into_the_document() -> None:
    root = {"$defs": {"a/b~c": [True, {"x y": 1}]}}
    assert find(root, "#", "$ref") == (root, "#")
    assert find(root, "#/$defs/a~1b~0c/1/x%20y", "$ref") == (1, "#/$defs/a~1b~0c/1/x y")
    assert below("#", "a/b~c") == "#/a~1b~0c"


@pytest.mark.parametrize("reference", ["#/$defs/none", "#/$defs/list/2", "#/$defs/list/-1", "#/$defs/list/01"])
def test_a_pointer_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(InvalidField, match="nothing stands there"):
        find({"$defs": {"list": [1, 2]}}, reference, "$ref at #")


@pytest.mark.parametrize("reference", ["http://example.com/a.json", "other.json#/a", "#anchor", "x" * 5000])
def test_nothing_outside_is_ever_fetched(reference: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        find({}, reference, "$ref at #")
    assert len(caught.value.message) < 300
