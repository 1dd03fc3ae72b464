"""One request on its way through the engine: its tokens in, its events out. Pure; times come in as arguments.

The order of events is the pipe's: ``Queued*``, ``Started``, ``Prefilling*``, ``TextDelta*``, ``ChoiceFinished``,
``Finished``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshnode.domain import FinishReason
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.engine.textstream import TextStream
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    Prefilling,
    Queued,
    Started,
    TextDelta,
    Timings,
    Usage,
)

_SILENT = 16
"""Tokens without text (control tokens, parts of characters) after which the reader hears of them all the same."""


class Generation:
    """Sequence, sampler and text of a request; ``piece`` gives the bytes of a token."""

    def __init__(
        self, sequence: TokenSequence, sampler: Sampler, *, seed: int, piece: Callable[[int], bytes], now: float
    ) -> None:
        self.sequence = sequence
        self.sampler = sampler
        self._seed = seed
        self._piece = piece
        self._text = TextStream(sequence.stopping.stop)
        self._unsaid: list[int] = []
        self._position = 0
        self._submitted = now
        self._admitted: float | None = None
        self._first_token: float | None = None
        self.closed = False
        """Whether its last event was made."""

    @property
    def started(self) -> bool:
        """Whether it was ever admitted."""
        return self._admitted is not None

    def queue(self, position: int) -> Iterator[Event]:
        """It is number ``position`` of the queue now; said once per place, and not of what was pre-empted."""
        if position != self._position and not self.started:
            self._position = position
            yield Queued(position)

    def admit(self, now: float) -> Iterator[Event]:
        """It has a slot; nothing is said when it comes back from pre-emption."""
        if not self.started:
            self._admitted = now
            yield Started(self.sequence.prompt_length, 0, self._seed)

    def prefill(self, start: int, done: int) -> Iterator[Event]:
        """Positions ``start`` up to ``done`` were computed; said of prompts longer than one chunk."""
        total = self.sequence.prompt_length
        if self.sequence.output_length == 0 and (start > 0 or done < total):
            yield Prefilling(done, total)

    def take(self, token: int, ending: Ending | None, now: float) -> Iterator[Event]:
        """A token was drawn and appended to the sequence; the last events of the request if it ends here."""
        if self._first_token is None:
            self._first_token = now
        hidden = ending is not None and ending.token is not None
        text, stop = self._text.feed(b"" if hidden else self._piece(token))
        self._unsaid += () if hidden else (token,)
        if ending is None and stop is None:
            if text or len(self._unsaid) >= _SILENT:
                yield self._say(text)
            return
        if stop is None:
            rest, stop = self._text.finish()
            text += rest
        if text or (stop is None and self._unsaid):
            yield self._say(text)
        yield from self._close(ending, stop, now)

    def end(self, ending: Ending, now: float) -> Iterator[Event]:
        """End it without another token."""
        yield from self._close(ending, None, now)

    def _say(self, text: str) -> TextDelta:
        tokens, self._unsaid = tuple(self._unsaid), []
        return TextDelta(text, 0, tokens)

    def _close(self, ending: Ending | None, stop: str | None, now: float) -> Iterator[Event]:
        if stop is not None:
            yield ChoiceFinished(FinishReason.STOP, 0, stop)
        elif ending is not None:
            yield ChoiceFinished(ending.reason, 0, self._stop_text(ending))
        self.closed = True
        yield Finished(self._usage(), self._timings(now))

    def _stop_text(self, ending: Ending) -> str | None:
        """Text of the stop token the caller named, if one ended it."""
        if ending.token is None or ending.token not in self.sequence.stopping.stop_token_ids:
            return None
        return self._piece(ending.token).decode("utf-8", "replace")

    def _usage(self) -> Usage:
        return Usage(prompt_tokens=self.sequence.prompt_length, completion_tokens=self.sequence.output_length)

    def _timings(self, now: float) -> Timings:
        admitted = now if self._admitted is None else self._admitted
        first = now if self._first_token is None else self._first_token
        return Timings(
            queue_ms=1000 * (admitted - self._submitted),
            prompt_ms=1000 * (first - admitted),
            predicted_ms=1000 * (now - first),
        )
