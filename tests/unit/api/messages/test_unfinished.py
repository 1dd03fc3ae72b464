"""The input of a call, complete or cut off anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.messages.unfinished import input_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab,{"\\'), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": "b\\', {"a": "b"}),
        ('{"a": [1, {"b": tr', {"a": [1, {}]}),
        ('{"a": 1, "b', {"a": 1}),
        ("[1]", {}),
        ("not JSON", {}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
    ],
)
def test_what_was_complete_is_kept(arguments: str, expected: dict[str, Any]) -> None:
    assert input_of(arguments) == expected


@given(st.dictionaries(st.text("ab,"), JSON, max_size=4), st.data())
def test_wherever_it_is_cut_an_object_comes_out_with_names_of_the_whole_only(
    value: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(value)
    assert input_of(text) == value
    cut = data.draw(st.integers(0, len(text)))
    found = input_of(text[:cut])
    assert found.keys() <= value.keys()
    kept = list(found)[:-1]
    assert {name: found[name] for name in kept} == {name: value[name] for name in kept}


@given(st.text())
def test_nothing_makes_it_fail(text: str) -> None:
    json.dumps(input_of(text)).encode()
