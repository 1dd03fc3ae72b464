"""The items of a response as they grow."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.responses.output import CallItem, CustomCallItem, MessageItem, ReasoningItem


class Heard:
    """What an item told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.deltas: list[str] = []

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        self.kinds.append(kind.removeprefix("response."))
        if "delta" in fields:
            self.deltas.append(fields["delta"])


def test_a_message() -> None:
    heard = Heard()
    item = MessageItem("msg_1", heard)
    item.say("a", ())
    item.say("b", ())
    assert item.close("completed")["content"][0]["text"] == "ab"
    assert heard.kinds == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]


def test_a_message_without_text_has_an_empty_part() -> None:
    heard = Heard()
    part = MessageItem("msg_1", heard).close("completed")["content"]
    assert part == [{"type": "output_text", "annotations": [], "logprobs": [], "text": ""}]
    assert heard.deltas == []


def test_a_thought() -> None:
    heard = Heard()
    thought = ReasoningItem("rs_1", heard, encrypted=False)
    for text in ("one t", "wo"):
        thought.think(text)
    assert thought.close("completed")["content"] == [{"type": "reasoning_text", "text": "one two"}]
    assert heard.deltas == ["one t", "wo"]


def test_a_function_call() -> None:
    heard = Heard()
    call = CallItem("fc_1", heard, "c1", {"type": "function", "name": "f", "namespace": "n"})
    call.write('{"a":')
    call.write("1}")
    assert call.close("completed") == {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "c1",
        "name": "f",
        "namespace": "n",
        "arguments": '{"a":1}',
        "status": "completed",
    }
    assert heard.deltas == ['{"a":', "1}"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"input": "x\\n"}', "x\n"),
        ('{"input": ""}', ""),
        ('{"input": "x', '{"input": "x'),
        ('{"inputs": "x"}', '{"inputs": "x"}'),
        ("[1]", "[1]"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_the_input_of_a_custom_call(arguments: str, told: str) -> None:
    heard = Heard()
    call = CustomCallItem("ctc_1", heard, "c1", {"type": "custom", "name": "patch"})
    call.write(arguments)
    assert call.snapshot("in_progress")["input"] == ""
    assert call.close("completed")["input"] == told
    assert "".join(heard.deltas) == told
