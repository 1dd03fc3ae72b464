"""One answer of a request: tokens in, events out, and what may come next. Pure; logits and times come in as arguments.

A request for ``n`` answers has ``n`` of these. They share the prompt, which is computed once: the first draws from its
last position, and the others are forked there, each with its own noise (the choice's index is part of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from meshnode.domain import FinishReason
from meshnode.engine.backend import Logits
from meshnode.engine.logprobs import logprobs
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.engine.textstream import TextStream
from meshnode.events import ChoiceFinished, Event, TextDelta, TokenLogprob

_SILENT = 16
"""Tokens without text (control tokens, parts of characters) after which the reader hears of them all the same."""


class Choice:
    """Answer number ``index``: its tokens, its sampler and its text; ``piece`` gives the bytes of a token.

    ``top_logprobs`` is how many likely tokens are told of beside each one drawn; ``None`` tells of no probabilities.
    """

    def __init__(
        self,
        index: int,
        sequence: TokenSequence,
        sampler: Sampler,
        piece: Callable[[int], bytes],
        *,
        top_logprobs: int | None = None,
    ) -> None:
        self.index = index
        self.sequence = sequence
        self.closed = False
        """Whether its last event was made."""
        self._sampler = sampler
        self._piece = piece
        self._text = TextStream(sequence.stopping.stop)
        self._unsaid: list[int] = []
        self._top_logprobs = top_logprobs
        self._logprobs: list[TokenLogprob] = []

    def draw(self, logits: Logits, banned: Sequence[int]) -> int:
        """The next token, which counts from now on towards the penalties."""
        token = self._sampler.draw(logits, self.sequence.output_length, banned=banned)
        self._sampler.accept(token)
        if self._top_logprobs is not None:
            self._logprobs.append(logprobs(logits, token, self._top_logprobs, self._piece))
        return token

    def take(self, token: int, ending: Ending | None) -> Iterator[Event]:
        """A token was drawn and appended to the sequence; the last events of this answer if it ends here."""
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
        yield self._finished(ending, stop)

    def end(self, ending: Ending) -> Iterator[Event]:
        """End it without another token; nothing at all if it has ended."""
        if not self.closed:
            yield self._finished(ending, None)

    def _say(self, text: str) -> TextDelta:
        tokens, self._unsaid = tuple(self._unsaid), []
        said, self._logprobs = tuple(self._logprobs[: len(tokens)]), []
        return TextDelta(text, self.index, tokens, said)

    def _finished(self, ending: Ending | None, stop: str | None) -> ChoiceFinished:
        self.closed = True
        if stop is not None:
            return ChoiceFinished(FinishReason.STOP, self.index, stop)
        assert ending is not None, "an answer ends for a reason"
        return ChoiceFinished(ending.reason, self.index, self._stop_text(ending))

    def _stop_text(self, ending: Ending) -> str | None:
        """Text of the stop token the caller named, if one ended it."""
        if ending.token is None or ending.token not in self.sequence.stopping.stop_token_ids:
            return None
        return self._piece(ending.token).decode("utf-8", "replace")
