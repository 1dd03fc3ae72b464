"""Server-sent events on the wire."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api import sse


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_event_is_one_data_line_whatever_the_text(text: str) -> None:
    sent = sse.event({"text": text})
    assert sent.count(b"\n") == 2
    assert sent.endswith(b"\n\n")
    assert json.loads(sent.removeprefix(b"data: ")) == {"text": text}


@settings(deadline=None)
@given(st.text())
def test_a_comment_stays_a_comment(text: str) -> None:
    sent = sse.comment(text.encode("utf-8", "replace").decode())
    assert sent.startswith(b": ")
    assert sent.strip().count(b"\n") == 0
    assert sent.endswith(b"\n\n")


def test_several_events_are_sent_in_one_piece() -> None:
    assert sse.events([{"a": 1}, {"b": 2}]) + sse.DONE == b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n'
