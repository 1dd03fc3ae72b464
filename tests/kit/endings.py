"""Answers with every ending, as events; and how each dialect tells them, fed to its renderer in any pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from meshnode.api.dialect import Dialect
from meshnode.api.dialects import DIALECTS
from meshnode.api.render import Heading, Renderer, coalesce
from meshnode.api.schema import Asker
from meshnode.domain import OWNER, FinishReason, ModelId, RequestId
from meshnode.errors import Cancelled, MeshnodeError, Overloaded, WorkerDied
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)

FOLDER: Final = Path(__file__).parents[1] / "golden" / "dialects"
HEADING: Final = Heading("id_0123456789ab", 1_700_000_000, ModelId("tiny:q4_1"), "fp_0123456789ab")
USAGE: Final = Finished(Usage(12, 5, 4, 2), Timings(1.0, 20.0, 50.0))
END: Final = (ChoiceFinished(FinishReason.STOP), USAGE)
CALLS: Final = (
    ToolCallStarted(0, "call_a", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallDelta(0, '"Oslo"}'),
)


def _said(*texts: str) -> tuple[Event, ...]:
    return tuple(TextDelta(text, token_ids=(index,)) for index, text in enumerate(texts))


def _likely(text: str) -> TextDelta:
    top = ((1, text.encode(), -0.25), (2, b"\xc3", -2.5))
    return TextDelta(text, token_ids=(1,), logprobs=(TokenLogprob(1, text.encode(), -0.25, top),))


ENDINGS: Final[Mapping[str, tuple[Event | MeshnodeError, ...]]] = {
    "stop": (Started(12, 4), *_said("Hel", "lo ", "wörld"), *END),
    "stop string": (Started(12), *_said("Hi"), ChoiceFinished(FinishReason.STOP, stop="###"), USAGE),
    "length": (Started(12), *_said("Once", " upon"), ChoiceFinished(FinishReason.LENGTH), USAGE),
    "nothing": (Started(12), *END),
    "call": (Started(12), *CALLS, ChoiceFinished(FinishReason.TOOL_CALLS), USAGE),
    "text and calls": (
        Started(12), *_said("Let me", " look."), *CALLS, ToolCallStarted(1, "call_b", "time"),
        ToolCallDelta(1, "{}"), ChoiceFinished(FinishReason.TOOL_CALLS), USAGE,
    ),
    "reasoning": (Started(12), ReasoningDelta("Hm"), ReasoningDelta("m."), *_said("Four", "."), *END),
    "reasoning and a call": (
        Started(12), ReasoningDelta("Look."), *CALLS, ChoiceFinished(FinishReason.TOOL_CALLS), USAGE,
    ),
    "refusal": (Started(12), RefusalDelta("I can"), RefusalDelta("not."), *END),
    "content cut": (Started(12), *_said("So"), ChoiceFinished(FinishReason.CONTENT_FILTER), USAGE),
    "logprobs": (Started(12), _likely("A"), _likely("ß"), *END),
    "two choices": (
        Started(12), TextDelta("one"), TextDelta("uno", 1), ChoiceFinished(FinishReason.STOP, 1), TextDelta("."),
        ChoiceFinished(FinishReason.LENGTH), USAGE,
    ),
    "error before": (Overloaded("8 requests wait already.", hint="Try again shortly.", retry_after_s=2.0),),
    "error after": (Started(12), *_said("Hel", "lo"), WorkerDied("the engine died.", hint="Ask again.")),
    "error in a call": (Started(12), *CALLS[:2], WorkerDied("the engine died.")),
    "error in reasoning": (Started(12), ReasoningDelta("Hm"), WorkerDied("the engine died.")),
    "cancel": (Started(12), *_said("Hel"), Cancelled("it was cancelled.")),
}  # fmt: skip
"""By name; an error is what ended the answer in its place."""

ASKED: Final[Mapping[str, Mapping[str, Any]]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "completions": {"prompt": "hi"},
    "responses": {"model": "tiny", "input": "hi", "store": False},
    "messages": {
        "model": "tiny",
        "max_tokens": 5,
        "stop_sequences": ["###"],
        "messages": [{"role": "user", "content": "hi"}],
    },
}
"""The request that each of the dialects here answers; those that do not stream are left out."""
STREAMING: Final = tuple(path for path in ASKED if path in DIALECTS)


def renderer(path: str) -> Renderer:
    """A renderer of the dialect's answer to its request."""
    dialect = DIALECTS[path]
    ask = dialect.parse(json.dumps({**ASKED[path], "stream": True}).encode(), Asker(RequestId("req_1"), OWNER))
    return dialect.renderer(HEADING, include_usage=True, echo=ask.echo)


def streamed(path: str, steps: Sequence[Event | MeshnodeError], cuts: Iterable[int] = ()) -> list[dict[str, Any]]:
    """The frames of a stream whose events came in pieces that end before each of ``cuts``."""
    dialect, made = DIALECTS[path], renderer(path)
    frames: list[dict[str, Any]] = []
    for begin, end in pairwise([0, *sorted(set(cuts)), len(steps)]):
        events = [step for step in steps[begin:end] if not isinstance(step, MeshnodeError)]
        frames += made.chunks(coalesce(events)) if events else []
    if isinstance(steps[-1], MeshnodeError):
        frames += made.failed(steps[-1])
    return [_framed(dialect, frame) for frame in frames]


def _framed(dialect: Dialect, frame: Mapping[str, Any]) -> dict[str, Any]:
    """A frame as it is after the road over the wire, with the event's name where it has one."""
    name, _, data = dialect.voice.frame(frame).decode().strip().rpartition("data: ")
    named = {"event": name.removeprefix("event: ").strip()} if name else {}
    return named | {"data": json.loads(data)}


def whole(path: str, steps: Sequence[Event | MeshnodeError]) -> dict[str, Any]:
    """The one-shot answer, or the error's body."""
    dialect, made = DIALECTS[path], renderer(path)
    if isinstance(steps[-1], MeshnodeError):
        return json.loads(json.dumps(dialect.voice.envelope(steps[-1], "req_1")))  # type: ignore[no-any-return]
    for step in steps:
        assert not isinstance(step, MeshnodeError)
        made.collect(step)
    return json.loads(json.dumps(made.whole()))  # type: ignore[no-any-return]


def transcript(path: str) -> dict[str, Any]:
    """Every ending as the dialect tells it, event by event and in one piece."""
    return {
        name: {"stream": streamed(path, steps, range(1, len(steps))), "whole": whole(path, steps)}
        for name, steps in ENDINGS.items()
    }


def golden(path: str) -> Path:
    """Where the dialect's transcript is kept."""
    return FOLDER / f"{path.replace('/', '_')}.json"


# --- what is the same however it was cut ------------------------------------------------------------

_GROWING: Final = frozenset({"content", "delta", "text", "arguments", "reasoning_content", "refusal", "partial_json",
                             "thinking"})  # fmt: skip
_LISTS: Final = frozenset({"logprobs", "content", "tokens", "token_logprobs", "top_logprobs", "text_offset"})


def joined(frames: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames with neighbours joined that differ in nothing but a piece of text; their numbers left out."""
    found: list[dict[str, Any]] = []
    for frame in map(_without_numbers, frames):
        both = _merged(found[-1], frame) if found else None
        if both is None:
            found.append(frame)
        else:
            found[-1] = both
    return found


def _without_numbers(frame: dict[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in frame["data"].items() if key != "sequence_number"}
    return frame | {"data": data}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Both as one, or None where they differ in more than pieces that grow, or nothing grows."""
    try:
        merged = _grown("", one, other)
    except ValueError:
        return None
    return merged if merged != one or merged != other else None


def _grown(key: str, one: Any, other: Any) -> Any:
    """Raises ValueError where two values cannot be one."""
    if key in _GROWING and isinstance(one, str) and isinstance(other, str):
        return one + other
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {name: _grown(name, one[name], other[name]) for name in one}
    if isinstance(one, list) and isinstance(other, list):
        return one + other if key in _LISTS else [_grown("", a, b) for a, b in zip(one, other, strict=True)]
    if one != other:
        raise ValueError
    return one
