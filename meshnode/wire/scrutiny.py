"""What no honest provider sends as an answer, whatever the engine: judged event by event. Pure.

:mod:`meshnode.wire.session` judges order between messages; this judges what one request's events say. A provider is
paid by the token and counts the tokens itself, so that counts are held against what was streamed: no more tokens than
were asked for, than there are bytes of text, or than the last word (``Finished``) admits to.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any, Final

import msgspec

from meshnode.domain import GenerationRequest, Kind
from meshnode.errors import PeerError, ProtocolViolation
from meshnode.events import (
    ChoiceFinished,
    Counted,
    EmbeddingResult,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    RefusalDelta,
    RerankResult,
    Resumed,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    decoded_tokens,
)

COUNT: Final = 1 << 31
"""No count, index or token id reaches this."""
SLACK: Final = 16
"""Tokens by which honest counts differ: an engine tells of silent tokens sixteen at a time, and drops those that a stop
string takes back."""
PER_CHOICE: Final = 8
"""Tokens without text (control tokens) that any choice may have."""
PER_CALL: Final = 64
"""Tokens around a tool call that nobody sees as text."""
TEMPLATE_TOKENS: Final = 1024
"""Tokens of a prompt that stand in no request: a template's own words."""
INPUT_TOKENS: Final = 4
"""Special tokens that stand around an input to be embedded."""
PAIR_TOKENS: Final = 256
"""Tokens around a question and a document: the words that some models want there."""
MOST_DIMENSIONS: Final = 65_536
"""Numbers of a vector."""
TOKEN_CHARACTERS: Final = 256
"""Characters of a token at most, and of text that was held back for a stop string."""
MOST_CALLS: Final = 1024
"""Tool calls of one choice."""
CUT: Final = 500
"""Characters of a sentence for people."""
_WORD: Final = 64
_SEEDS: Final = 1 << 64


class Scrutiny:
    """Looks at one request's events from a peer, in order. After a ProtocolViolation it is of no more use.

    ``choices`` is how many answers are due (of an embedding, its inputs; of a reranking, its documents), ``max_tokens``
    bounds each, ``None`` does not. ``withheld`` are the UTF-8 bytes of the longest stop string: text that may be
    decoded and never said. ``most_prompt`` is how many tokens the prompt can have, ``dimensions`` how many numbers each
    vector must have; ``None`` leaves it to the first.
    """

    def __init__(
        self,
        choices: int,
        max_tokens: int | None,
        *,
        kind: Kind = Kind.GENERATE,
        withheld: int = 0,
        most_prompt: int = COUNT - 1,
        dimensions: int | None = None,
    ) -> None:
        self._choices = choices
        self._speaks = kind is Kind.GENERATE
        self._results: tuple[type, ...] = {Kind.EMBED: (EmbeddingResult,), Kind.RERANK: (RerankResult,)}.get(kind, ())
        self._most = math.inf if max_tokens is None else max_tokens * choices + choices + SLACK
        self._silent = PER_CHOICE * choices + SLACK + withheld
        self._most_prompt = most_prompt
        self._dimensions = dimensions
        self._started: Started | None = None
        self._closed = False
        self._finished: set[int] = set()
        self._calls: set[tuple[int, int]] = set()
        self._tokens = 0
        self._ids = 0
        self._bytes = 0

    def check(self, event: Event) -> None:
        """Judge the next event. Raises ProtocolViolation, which says nothing of the text.

        Tokens that say hardly anything are a plain PeerError: worth no more of anybody's money, but no proof of a lie.
        """
        if self._closed:
            raise ProtocolViolation("an event came after the last of its request.")
        _JUDGES[type(event)](self, event)

    def clean(self, event: Event) -> Event:
        """The event with what people may be shown of it cut short and printable."""
        if isinstance(event, Failed):
            param = None if event.param is None else printable(event.param, _WORD)
            words = {"code": printable(event.code, _WORD), "message": printable(event.message), "param": param}
            return msgspec.structs.replace(event, hint=printable(event.hint), **words)
        if isinstance(event, ChoiceFinished) and event.stop is not None:
            return msgspec.structs.replace(event, stop=printable(event.stop, keep="\t\n\r"))
        if isinstance(event, Finished) and event.charge is not None:
            return msgspec.structs.replace(event, charge=None)  # what a peer charges is on its bill, as we count it
        return event

    # --- before the answer --------------------------------------------------------------------

    def _queued(self, event: Queued) -> None:
        _count(event.position, "a place in the queue")
        _duration(event.estimate_s, "an estimate")

    def _loading(self, event: Loading) -> None:
        if not 0 <= event.fraction <= 1:  # also false of what is no number
            raise ProtocolViolation("a model is loaded by less than nothing or more than all.")

    def _prefilling(self, event: Prefilling) -> None:
        if self._started is None:
            raise ProtocolViolation("a prompt is computed before its request was started.")
        if event.total != self._started.prompt_tokens or not 0 <= event.done <= event.total:
            raise ProtocolViolation(f"{event.done} of {event.total} prompt tokens are computed, of another prompt.")

    def _start(self, event: Started) -> None:
        if self._started is not None:
            raise ProtocolViolation("a request was started twice.")
        _count(event.prompt_tokens, "a prompt's length")
        if event.prompt_tokens > self._most_prompt:
            raise ProtocolViolation(f"{event.prompt_tokens} prompt tokens of a request that has at most so many bytes.")
        if not 0 <= event.cached_tokens <= event.prompt_tokens:
            raise ProtocolViolation(f"{event.cached_tokens} of {event.prompt_tokens} prompt tokens were cached.")
        _count(event.dropped, "a number of messages")
        if not 0 <= event.seed < _SEEDS:
            raise ProtocolViolation("a seed has more than 64 bits.")
        self._started = event

    # --- the answer ---------------------------------------------------------------------------

    def _text(self, event: TextDelta | ReasoningDelta | RefusalDelta) -> None:
        self._choice(event.choice)
        if len(event.text) > TOKEN_CHARACTERS * (decoded_tokens(event) + SLACK):
            raise ProtocolViolation(f"{len(event.text)} characters of {decoded_tokens(event)} tokens.")
        self._bytes += len(event.text.encode())
        if isinstance(event, RefusalDelta):
            self._count_tokens(1)
            return
        if isinstance(event, TextDelta):
            for logprob in event.logprobs:
                _logprob(logprob)
        self._count_tokens(decoded_tokens(event), event.token_ids)

    def _call(self, event: ToolCallStarted) -> None:
        self._choice(event.choice)
        if not 0 <= event.index < MOST_CALLS or (event.choice, event.index) in self._calls:
            raise ProtocolViolation(f"tool call {event.index} began twice, or is one of too many.")
        if len(event.id) > CUT or len(event.name) > CUT:
            raise ProtocolViolation("a tool call has an endless name.")
        self._calls.add((event.choice, event.index))
        self._bytes += len(event.name.encode())
        self._silent += PER_CALL
        self._count_tokens(decoded_tokens(event), event.token_ids)

    def _arguments(self, event: ToolCallDelta) -> None:
        self._choice(event.choice)
        if (event.choice, event.index) not in self._calls:
            raise ProtocolViolation(f"arguments of tool call {event.index}, which has not begun.")
        self._bytes += len(event.arguments.encode())
        self._count_tokens(decoded_tokens(event), event.token_ids)

    def _end_choice(self, event: ChoiceFinished) -> None:
        self._choice(event.choice)
        self._finished.add(event.choice)

    def _embedding(self, event: EmbeddingResult) -> None:
        self._one_result(event)
        if not event.vector or len(event.vector) % 4 or not all(map(math.isfinite, array("f", event.vector))):
            raise ProtocolViolation("a vector is not made of finite 32-bit floats.")
        numbers = len(event.vector) // 4
        self._dimensions = self._dimensions or min(numbers, MOST_DIMENSIONS)
        if numbers != self._dimensions:
            raise ProtocolViolation(f"a vector of {numbers} numbers, not {self._dimensions}.")

    def _score(self, event: RerankResult) -> None:
        self._one_result(event)
        _finite(event.score, "a score")

    def _counted(self, event: Counted) -> None:
        raise ProtocolViolation("a prompt was read back; peers are asked for that by nobody.")

    # --- the end ------------------------------------------------------------------------------

    def _finish(self, event: Finished) -> None:
        usage, started = event.usage, self._started
        if started is None or ((self._speaks or self._results) and len(self._finished) < self._choices):
            raise ProtocolViolation("a request finished before all its choices did.")
        for count in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens):
            _count(count, "a token count")
        if usage.prompt_tokens != started.prompt_tokens or usage.cached_tokens > usage.prompt_tokens:
            raise ProtocolViolation(f"{usage.prompt_tokens} prompt tokens were used, not {started.prompt_tokens}.")
        most = self._tokens + self._choices + SLACK + PER_CALL * len(self._calls)
        if not self._ids <= usage.completion_tokens <= most or usage.reasoning_tokens > usage.completion_tokens:
            raise ProtocolViolation(f"{usage.completion_tokens} tokens were used and {self._tokens} streamed.")
        for milliseconds in (event.timings.queue_ms, event.timings.prompt_ms, event.timings.predicted_ms):
            _duration(milliseconds, "a time")
        self._closed = True

    def _fail(self, event: Failed) -> None:
        _duration(event.retry_after_s, "a time to wait")
        self._closed = True

    def _alive(self, event: Heartbeat) -> None:
        """Nothing to judge."""

    def _resumed(self, event: Resumed) -> None:
        raise ProtocolViolation("a peer resumed an answer, which is the caller's to do.")

    # --- what they share ----------------------------------------------------------------------

    def _choice(self, choice: int) -> None:
        if self._started is None or not self._speaks:
            raise ProtocolViolation("text of a request that was not started, or has none.")
        if not 0 <= choice < self._choices:
            raise ProtocolViolation(f"choice {choice} of {self._choices}.")
        if choice in self._finished:
            raise ProtocolViolation(f"choice {choice} goes on after its end.")

    def _one_result(self, event: EmbeddingResult | RerankResult) -> None:
        if self._started is None or not isinstance(event, self._results):
            raise ProtocolViolation("a result of a request that was not started, or has none.")
        if not 0 <= event.index < self._choices or event.index in self._finished:
            raise ProtocolViolation(f"result {event.index} of {self._choices}, or a second one.")
        self._finished.add(event.index)

    def _count_tokens(self, tokens: int, ids: tuple[int, ...] = ()) -> None:
        for token in ids:
            _count(token, "a token id")
        self._tokens += tokens
        self._ids += len(ids)
        if self._tokens > self._most:
            raise ProtocolViolation(f"{self._tokens} tokens of an answer that may have {self._most}.")
        if self._tokens > self._bytes + self._silent:
            # Not a violation: a model may be brought to say control tokens only, by its caller as well.
            raise PeerError(f"{self._tokens} tokens of {self._bytes} bytes of text.")


_JUDGES: Final[dict[type, Callable[[Scrutiny, Any], None]]] = {
    Queued: Scrutiny._queued,
    Loading: Scrutiny._loading,
    Prefilling: Scrutiny._prefilling,
    Started: Scrutiny._start,
    TextDelta: Scrutiny._text,
    ReasoningDelta: Scrutiny._text,
    RefusalDelta: Scrutiny._text,
    ToolCallStarted: Scrutiny._call,
    ToolCallDelta: Scrutiny._arguments,
    EmbeddingResult: Scrutiny._embedding,
    RerankResult: Scrutiny._score,
    Counted: Scrutiny._counted,
    Heartbeat: Scrutiny._alive,
    Resumed: Scrutiny._resumed,
    ChoiceFinished: Scrutiny._end_choice,
    Finished: Scrutiny._finish,
    Failed: Scrutiny._fail,
}


def scrutiny_of(request: GenerationRequest, body_bytes: int) -> Scrutiny:
    """What the answer to a request is looked at with; ``body_bytes`` is the length of its encoded body."""
    inputs, pairs = len(request.inputs), len(request.documents)
    repeated = pairs * (len(request.query.encode("utf-8", "replace")) + PAIR_TOKENS)
    return Scrutiny(
        inputs or pairs or request.choices,
        request.stopping.max_tokens,
        kind=request.kind,
        withheld=max((len(stop.encode()) for stop in request.stopping.stop), default=0),
        most_prompt=body_bytes + TEMPLATE_TOKENS + INPUT_TOKENS * inputs + repeated,
        dimensions=request.dimensions,
    )


def printable(text: str, limit: int = CUT, *, keep: str = "") -> str:
    """A peer's words as a terminal and a log can show them: what cannot be printed, but for ``keep``, is a space."""
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text[:limit])


def _count(value: int, what: str) -> None:
    if not 0 <= value < COUNT:
        raise ProtocolViolation(f"{what} is {value}.")


def _finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise ProtocolViolation(f"{what} is no finite number.")


def _duration(value: float | None, what: str) -> None:
    if value is not None and not 0 <= value < COUNT:  # also false of what is no number
        raise ProtocolViolation(f"{what} is no length of time.")


def _logprob(entry: TokenLogprob) -> None:
    _count(entry.token_id, "a token id")
    _finite(entry.logprob, "a log probability")
    for token, _, logprob in entry.top:
        _count(token, "a token id")
        _finite(logprob, "a log probability")
