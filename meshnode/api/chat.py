"""``POST /v1/chat/completions``: events of one answer as OpenAI's chunks or its one-shot object. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.answer_headers import account
from meshnode.api.errors import envelope
from meshnode.api.render import NOTHING, Call, Collected, Heading, timings, usage
from meshnode.errors import MeshnodeError
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
)


class ChatRenderer:
    """One chat answer. The role comes with the first delta of a choice; ``usage`` only where it was asked for.

    Where the echo has ``functions``, a call is told in the words of before ``tools``.
    """

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._include_usage = include_usage
        self._begun: set[int] = set()
        self._functions = bool(echo.get("functions"))
        self._collected = Collected()

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Chunks of a stream for these events."""
        return [chunk for event in events for chunk in self._chunk(event)]

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """The last chunks of a stream that an error ends."""
        return [envelope(error)]

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
                return self._deltas(choice, {"content": text}, logprobs=event.logprobs)
            case ToolCallStarted(name=name, choice=choice) if self._functions:
                return self._deltas(choice, {"function_call": {"name": name, "arguments": ""}})
            case ToolCallDelta(arguments=arguments, choice=choice) if self._functions:
                return self._deltas(choice, {"function_call": {"arguments": arguments}})
            case ToolCallStarted(index=index, id=id, name=name, choice=choice):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": id, "type": "function", "function": function}
                return self._deltas(choice, {"tool_calls": [call]})
            case ToolCallDelta(index=index, arguments=arguments, choice=choice):
                return self._deltas(choice, {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
            case ReasoningDelta(text=text, choice=choice):
                return self._deltas(choice, {"reasoning_content": text})
            case RefusalDelta(text=text, choice=choice):
                return self._deltas(choice, {"refusal": text})
            case ChoiceFinished(reason=reason, choice=choice):
                return self._deltas(choice, {}, self._reason(reason.value))
            case Finished():
                return [self._last(event)] if self._include_usage else []
            case _:
                return []

    def _deltas(
        self, choice: int, delta: dict[str, Any], reason: str | None = None, logprobs: Sequence[TokenLogprob] = ()
    ) -> list[dict[str, Any]]:
        opening = []
        if choice not in self._begun:
            self._begun.add(choice)
            opening = [self._delta(choice, {"role": "assistant", "content": "", "refusal": None}, None)]
        return [*opening, self._delta(choice, delta, reason, logprobs)]

    def _delta(
        self, choice: int, delta: dict[str, Any], reason: str | None, logprobs: Sequence[TokenLogprob] = ()
    ) -> dict[str, Any]:
        chunk = {
            **self._head("chat.completion.chunk"),
            "choices": [{"index": choice, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": reason}],
        }
        return chunk | {"usage": None} if self._include_usage else chunk

    def _last(self, finished: Finished) -> dict[str, Any]:
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage(finished.usage),
            "timings": timings(finished),
            **account(finished),
        }

    def _choice(self, index: int) -> dict[str, Any]:
        collected = self._collected
        text = "".join(collected.text[index])
        calls = collected.calls.get(index)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "refusal": "".join(collected.refusal[index]) or None,
        }
        if index in collected.reasoning:
            message["reasoning_content"] = "".join(collected.reasoning[index])
        if calls and self._functions:
            message["function_call"] = _call(calls[min(calls)])["function"]
        elif calls:
            message["tool_calls"] = [_call(calls[place]) for place in sorted(calls)]
        reason = self._reason(collected.reasons.get(index, "stop"))
        logprobs = _logprobs(collected.logprobs[index])
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _reason(self, reason: str) -> str:
        return "function_call" if self._functions and reason == "tool_calls" else reason

    def _head(self, kind: str) -> dict[str, Any]:
        heading = self._heading
        return {
            "id": heading.id,
            "object": kind,
            "created": heading.created,
            "model": heading.model,
            "system_fingerprint": heading.fingerprint,
        }


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": "".join(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """OpenAI's ``logprobs``; a token that is part of a character shows it in ``bytes``."""
    if not logprobs:
        return None
    content = [
        _logprob(one.token, one.logprob) | {"top_logprobs": [_logprob(token, value) for _, token, value in one.top]}
        for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _logprob(token: bytes, value: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": value, "bytes": list(token)}
