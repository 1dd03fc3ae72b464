"""``POST /v1/chat/completions``: events of one answer as OpenAI's chunks or its one-shot object. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshnode.api.render import Collected, Heading, timings, usage
from meshnode.events import ChoiceFinished, Event, Finished, ReasoningDelta, RefusalDelta, TextDelta


class ChatRenderer:
    """One chat answer. The role comes with the first delta of a choice; ``usage`` only where it was asked for."""

    def __init__(self, heading: Heading, *, include_usage: bool) -> None:
        self._heading = heading
        self._include_usage = include_usage
        self._begun: set[int] = set()
        self._collected = Collected()

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Chunks of a stream for these events."""
        return [chunk for event in events for chunk in self._chunk(event)]

    def collect(self, event: Event) -> None:
        """Take one event of a one-shot answer."""
        self._collected.take(event)

    def whole(self) -> dict[str, Any]:
        """The one-shot answer."""
        finished = self._collected.finished
        choices = [self._choice(index) for index in self._collected.choices()]
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": usage(finished.usage),
            "timings": timings(finished),
        }

    def _chunk(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case TextDelta(text=text, choice=choice):
                return self._deltas(choice, {"content": text})
            case ReasoningDelta(text=text, choice=choice):
                return self._deltas(choice, {"reasoning_content": text})
            case RefusalDelta(text=text, choice=choice):
                return self._deltas(choice, {"refusal": text})
            case ChoiceFinished(reason=reason, choice=choice):
                return self._deltas(choice, {}, reason.value)
            case Finished():
                return [self._last(event)] if self._include_usage else []
            case _:
                return []

    def _deltas(self, choice: int, delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
        opening = []
        if choice not in self._begun:
            self._begun.add(choice)
            opening = [self._delta(choice, {"role": "assistant", "content": "", "refusal": None}, None)]
        return [*opening, self._delta(choice, delta, reason)]

    def _delta(self, choice: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        chunk = {
            **self._head("chat.completion.chunk"),
            "choices": [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}],
        }
        return chunk | {"usage": None} if self._include_usage else chunk

    def _last(self, finished: Finished) -> dict[str, Any]:
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage(finished.usage),
            "timings": timings(finished),
        }

    def _choice(self, index: int) -> dict[str, Any]:
        collected = self._collected
        message = {
            "role": "assistant",
            "content": "".join(collected.text[index]),
            "refusal": "".join(collected.refusal[index]) or None,
        }
        if index in collected.reasoning:
            message["reasoning_content"] = "".join(collected.reasoning[index])
        reason = collected.reasons.get(index, "stop")
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}

    def _head(self, kind: str) -> dict[str, Any]:
        heading = self._heading
        return {
            "id": heading.id,
            "object": kind,
            "created": heading.created,
            "model": heading.model,
            "system_fingerprint": heading.fingerprint,
        }
