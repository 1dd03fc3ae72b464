"""``POST /v1/completions``: events of one answer as OpenAI's chunks or its one-shot object. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.answer_headers import account
from meshnode.api.errors import envelope
from meshnode.api.render import NOTHING, Collected, Heading, timings, usage
from meshnode.domain import FinishReason
from meshnode.errors import MeshnodeError
from meshnode.events import ChoiceFinished, Event, Finished, TextDelta, TokenLogprob


class CompletionRenderer:
    """One completion. Chunks and the whole have the same shape in this dialect.

    Its echo: ``prompts``, the text of each, which its answers repeat first; ``n`` answers are shown for each prompt,
    the best of ``best_of``, with their probabilities only if ``logprobs``.
    """

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._include_usage = include_usage
        self._collected = Collected()
        self._offsets: defaultdict[int, int] = defaultdict(int)
        self._prompts: Sequence[str] = echo.get("prompts", ())
        self._n = int(echo.get("n", 0))
        self._best_of = int(echo.get("best_of", 0))
        self._shows = bool(echo.get("logprobs", True))
        self._begun: set[int] = set()

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
        collected = self._collected
        choices = [self._shown(place, index) for place, index in enumerate(self._best())]
        return self._body(choices) | {"usage": usage(collected.finished.usage), "timings": timings(collected.finished)}

    def _shown(self, place: int, index: int) -> dict[str, Any]:
        """Answer number ``index`` of those made, as number ``place`` of those shown."""
        collected = self._collected
        text = self._repeated(place) + "".join(collected.text[index])
        logprobs = collected.logprobs[index] if self._shows else ()
        return self._choice(place, text, _reason(collected.reasons.get(index, "stop")), logprobs)

    def _best(self) -> list[int]:
        """The answers that are shown: those with the highest mean log probability for each prompt, in that order."""
        made = self._collected.choices()
        if self._best_of <= self._n:
            return made
        shown: list[int] = []
        for start in range(0, len(made), self._best_of):
            likeliest = sorted(made[start : start + self._best_of], key=self._likelihood, reverse=True)
            shown += likeliest[: self._n]
        return shown

    def _likelihood(self, index: int) -> float:
        logprobs = [one.logprob for one in self._collected.logprobs[index]]
        return math.fsum(logprobs) / len(logprobs) if logprobs else -math.inf

    def _repeated(self, choice: int) -> str:
        """What an answer repeats of its prompt, the first time that it says anything."""
        if not self._prompts or choice in self._begun:
            return ""
        self._begun.add(choice)
        return self._prompts[choice // max(1, self._n)] if len(self._prompts) > 1 else self._prompts[0]

    def _chunk(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case TextDelta(text=text, choice=choice):
                text = self._repeated(choice) + text
                return [self._piece(self._choice(choice, text, None, event.logprobs))]
            case ChoiceFinished(reason=reason, choice=choice):
                return [self._piece(self._choice(choice, self._repeated(choice), _reason(reason.value)))]
            case Finished() if self._include_usage:
                return [self._body([]) | {"usage": usage(event.usage), "timings": timings(event), **account(event)}]
            case _:
                return []

    def _piece(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self._body([choice]) | ({"usage": None} if self._include_usage else {})

    def _body(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        heading = self._heading
        return {
            "id": heading.id,
            "object": "text_completion",
            "created": heading.created,
            "model": heading.model,
            "system_fingerprint": heading.fingerprint,
            "choices": choices,
        }

    def _choice(
        self, index: int, text: str, reason: str | None, logprobs: Sequence[TokenLogprob] = ()
    ) -> dict[str, Any]:
        shown = self._logprobs(index, logprobs) if logprobs else None
        return {"index": index, "text": text, "logprobs": shown, "finish_reason": reason}

    def _logprobs(self, index: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """This dialect's lists: text of each token, its number, the likeliest tokens, and where its text begins."""
        tokens = [one.token.decode("utf-8", "replace") for one in logprobs]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [{token.decode("utf-8", "replace"): v for _, token, v in one.top} for one in logprobs],
            "text_offset": offsets,
        }


def _reason(reason: str) -> str:
    """This dialect has no tools: what the model meant as a call is the end of its text."""
    return "stop" if reason == FinishReason.TOOL_CALLS else reason
