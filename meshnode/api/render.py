"""What the renderers of chat and completions share: collecting, counting, words while waiting. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from meshnode.domain import ModelId
from meshnode.errors import MeshnodeError
from meshnode.events import (
    ChoiceFinished,
    Counted,
    Event,
    Finished,
    Loading,
    Prefilling,
    Queued,
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
from meshnode.gateway.coalesce import coalesce as coalesce

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""The echo of a dialect whose answers repeat nothing of the request."""


class Heading(NamedTuple):
    """What every chunk of an answer repeats. ``created`` in seconds since 1970."""

    id: str
    created: int
    model: ModelId
    fingerprint: str


class Renderer(Protocol):
    """Events of one request in, JSON of one dialect out."""

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Chunks of a stream for the events that are ready; those of the end included."""

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """The last chunks of a stream that an error ends; whatever was begun is closed as the dialect wants it."""

    def whole(self) -> dict[str, Any]:
        """The one-shot answer of all events seen by :meth:`collect`."""

    def collect(self, event: Event) -> None:
        """Take one event of a one-shot answer."""


class Unstreamed:
    """What a renderer whose answers are never streamed says of streams: nothing."""

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """None: this answer is not streamed."""
        return []

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """None: this answer is not streamed."""
        return []


class Call:
    """A tool call as it grows."""

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []


class Collected:
    """The choices of a one-shot answer as they grow."""

    def __init__(self) -> None:
        self.logprobs: defaultdict[int, list[TokenLogprob]] = defaultdict(list)
        self.calls: defaultdict[int, dict[int, Call]] = defaultdict(dict)
        self.text: defaultdict[int, list[str]] = defaultdict(list)
        self.reasoning: defaultdict[int, list[str]] = defaultdict(list)
        self.refusal: defaultdict[int, list[str]] = defaultdict(list)
        self.reasons: dict[int, str] = {}
        self.finished = Finished(Usage())

    def take(self, event: Event) -> None:
        """Remember what the event adds."""
        match event:
            case TextDelta(text=text, choice=choice):
                self.text[choice].append(text)
                self.logprobs[choice] += event.logprobs
            case ToolCallStarted(choice=choice):
                self.calls[choice][event.index] = Call(event.id, event.name)
            case ToolCallDelta(choice=choice):
                self.calls[choice][event.index].arguments.append(event.arguments)
            case ReasoningDelta(text=text, choice=choice):
                self.reasoning[choice].append(text)
            case RefusalDelta(text=text, choice=choice):
                self.refusal[choice].append(text)
            case ChoiceFinished(reason=reason, choice=choice):
                self.reasons[choice] = reason.value
            case Finished():
                self.finished = event
            case _:
                pass

    def choices(self) -> list[int]:
        """Indices of the choices, in order; at least one."""
        return sorted({0, *self.text, *self.reasons})


def counted(event: Event, before: int) -> int:
    """How many tokens the prompt has, after an event; ``before`` where it does not tell."""
    if isinstance(event, Counted):
        return event.tokens
    return event.prompt_tokens if isinstance(event, Started) else before


def usage(counts: Usage) -> dict[str, Any]:
    """OpenAI's ``usage``."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def timings(finished: Finished) -> dict[str, Any]:
    """llama.cpp's ``timings``, with our ``queue_ms``. Milliseconds and tokens per second."""
    times, counts = finished.timings, finished.usage
    prompt = counts.prompt_tokens - counts.cached_tokens
    return {
        "cache_n": counts.cached_tokens,
        "prompt_n": prompt,
        "prompt_ms": _round(times.prompt_ms),
        "prompt_per_second": _rate(prompt, times.prompt_ms),
        "predicted_n": counts.completion_tokens,
        "predicted_ms": _round(times.predicted_ms),
        "predicted_per_second": _rate(counts.completion_tokens, times.predicted_ms),
        "queue_ms": _round(times.queue_ms),
    }


def overhead_ms(times: Timings, total_ms: float) -> float:
    """What is left of the whole time beside waiting and computing; never negative."""
    return max(0.0, total_ms - times.queue_ms - times.prompt_ms - times.predicted_ms)


def fingerprint(version: str, model: str, weights: str) -> str:
    """``system_fingerprint``: the same for the same meshnode and the same weights."""
    return "fp_" + hashlib.sha256(f"{version}\0{model}\0{weights}".encode()).hexdigest()[:12]


def waiting(event: Event | None) -> str:
    """What a client waits for, in a few words; numbers only, never content."""
    match event:
        case Queued(position=position):
            return f"queued, position {position}"
        case Loading(fraction=fraction, fetching=True):
            return f"fetching the model, {fraction:.0%}"
        case Loading(fraction=fraction):
            return f"loading the model, {fraction:.0%}"
        case Prefilling(done=done, total=total):
            return f"reading the prompt, {done} of {total} tokens"
        case _:
            return "waiting"


def _round(milliseconds: float) -> float:
    return round(milliseconds, 3)


def _rate(tokens: int, milliseconds: float) -> float:
    return round(tokens * 1000 / milliseconds, 3) if milliseconds > 0 else 0.0
