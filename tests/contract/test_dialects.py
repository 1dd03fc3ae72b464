"""One suite for every dialect that streams: what it says of each ending, and that pieces make no difference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import MeshnodeError
from tests.kit.endings import ENDINGS, STREAMING, golden, joined, streamed, transcript

PAIRS = [(path, name) for path in STREAMING for name in ENDINGS]


@pytest.mark.parametrize("path", STREAMING)
def test_every_ending_is_told_as_it_was_recorded(path: str) -> None:
    recorded = json.loads(golden(path).read_text(encoding="utf-8"))
    assert transcript(path) == recorded, "scripts/record_dialects records anew what was meant to change"


@pytest.mark.parametrize(("path", "name"), PAIRS)
@given(data=st.data())
def test_pieces_make_no_difference(path: str, name: str, data: st.DataObject) -> None:
    steps = ENDINGS[name]
    cuts = data.draw(st.sets(st.integers(1, len(steps) - 1))) if len(steps) > 1 else set()
    assert joined(streamed(path, steps, cuts)) == joined(streamed(path, steps, range(1, len(steps))))


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_a_stream_that_fails_says_so_last(path: str, name: str) -> None:
    steps = ENDINGS[name]
    last = json.dumps(streamed(path, steps)[-1])
    if isinstance(steps[-1], MeshnodeError):
        assert steps[-1].message in last
    else:
        assert "error" not in json.loads(last)["data"] or json.loads(last)["data"]["error"] is None
