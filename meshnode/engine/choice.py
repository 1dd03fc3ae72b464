"""One answer of a request: tokens in, events out, and what may come next. Pure; logits and times come in as arguments.

A request for ``n`` answers has ``n`` of these. They share the prompt, which is computed once: the first draws from its
last position, and the others are forked there, each with its own noise (the choice's index is part of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from meshnode.domain import FinishReason
from meshnode.engine.backend import Logits
from meshnode.engine.constrain.either import Holds
from meshnode.engine.logprobs import logprobs
from meshnode.engine.replies.pieces import CallArguments, CallBegan, Piece, Said, Thought
from meshnode.engine.replies.reading import Parser
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.engine.textstream import TextStream
from meshnode.events import (
    ChoiceFinished,
    Event,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
)

_SILENT = 16
"""Tokens without text (control tokens, parts of characters) after which the reader hears of them all the same."""


class Choice:
    """Answer number ``index``: its tokens, its sampler and its text; ``piece`` gives the bytes of a token.

    ``reader`` tells reasoning and calls from text; without one all is text. ``matcher`` holds the answer to a form,
    from where reasoning ends, or with it (``holds_thought``). ``top_logprobs`` is how many likely tokens are told of
    beside each one drawn; ``None`` tells of no probabilities.
    """

    def __init__(
        self,
        index: int,
        sequence: TokenSequence,
        sampler: Sampler,
        piece: Callable[[int], bytes],
        *,
        reader: Parser | None = None,
        matcher: Holds | None = None,
        holds_thought: bool = False,
        top_logprobs: int | None = None,
    ) -> None:
        self.index = index
        self.sequence = sequence
        self.closed = False
        """Whether its last event was made."""
        self.reasoned = 0
        """Tokens told of as reasoning."""
        self._sampler = sampler
        self._piece = piece
        self._reader = reader
        self._matcher = matcher
        self._holds_thought = holds_thought
        self._text = TextStream(sequence.stopping.stop)
        self._unsaid: list[int] = []
        self._top_logprobs = top_logprobs
        self._logprobs: list[TokenLogprob] = []

    def draw(self, logits: Logits, banned: Sequence[int]) -> int:
        """The next token, which counts from now on towards penalties and form.

        Raises InvalidField where the form or the caller's fields leave none, ModelFailed where the model gives none.
        """
        thinking = self._reader is not None and self._reader.thinking and not self._holds_thought
        matcher = None if thinking else self._matcher
        allowed = None if matcher is None else matcher.mask()
        token = self._sampler.draw(logits, self.sequence.output_length, banned=banned, allowed=allowed)
        self._sampler.accept(token)
        if matcher is not None:
            matcher.accept(token)
        if self._top_logprobs is not None:
            self._logprobs.append(logprobs(logits, token, self._top_logprobs, self._piece))
        return token

    def ending(self, ending: Ending | None) -> Ending | None:
        """How it ends with the token just appended, which ends the sequence so: a form that is complete ends it too."""
        complete = self._matcher is not None and self._matcher.ended
        if complete and (ending is None or ending.reason is FinishReason.LENGTH):
            return Ending(FinishReason.STOP)
        return ending

    def take(self, token: int, ending: Ending | None) -> Iterator[Event]:
        """A token was drawn and appended to the sequence; the last events of this answer if it ends here."""
        hidden = ending is not None and ending.token is not None
        text, stop = self._text.feed(b"" if hidden else self._piece(token))
        self._unsaid += () if hidden else (token,)
        over = ending is not None or stop is not None
        if over and stop is None:
            rest, stop = self._text.finish()
            text += rest
        pieces = self._read(text, over)
        if pieces:
            yield from self._say(pieces)
        elif len(self._unsaid) >= _SILENT or (over and stop is None and self._unsaid):
            yield from self._say([Said("")])
        if over:
            yield self._finished(ending, stop)

    def end(self, ending: Ending) -> Iterator[Event]:
        """End it without another token; nothing at all if it has ended."""
        if not self.closed:
            yield self._finished(ending, None)

    def _read(self, text: str, over: bool) -> list[Piece]:
        if self._reader is None:
            return [Said(text)] if text else []
        pieces = self._reader.feed(text) if text else []
        return pieces + self._reader.finish() if over else pieces

    def _say(self, pieces: Sequence[Piece]) -> Iterator[Event]:
        """The events of what was read. Each has a token, as far as they go, and the last one the rest of them."""
        tokens, self._unsaid = self._unsaid, []
        said, self._logprobs = tuple(self._logprobs[: len(tokens)]), []
        for place, piece in enumerate(pieces, 1):
            ids = tuple(tokens[:1] if place < len(pieces) else tokens)
            del tokens[: len(ids)]
            match piece:
                case Said(text=text):
                    yield TextDelta(text, self.index, ids, said)
                    said = ()
                case Thought(text=text):
                    self.reasoned += len(ids)
                    yield ReasoningDelta(text, self.index, ids)
                case CallBegan(index=index, id=id, name=name):
                    yield ToolCallStarted(index, id, name, self.index, token_ids=ids)
                case CallArguments(index=index, text=text):
                    yield ToolCallDelta(index, text, self.index, token_ids=ids)

    def _finished(self, ending: Ending | None, stop: str | None) -> ChoiceFinished:
        self.closed = True
        if stop is not None:
            return ChoiceFinished(FinishReason.STOP, self.index, stop)
        assert ending is not None, "an answer ends for a reason"
        reason = ending.reason
        if reason is FinishReason.STOP and self._reader is not None and self._reader.calls:
            reason = FinishReason.TOOL_CALLS
        return ChoiceFinished(reason, self.index, self._stop_text(ending))

    def _stop_text(self, ending: Ending) -> str | None:
        """Text of the stop token the caller named, if one ended it."""
        if ending.token is None or ending.token not in self.sequence.stopping.stop_token_ids:
            return None
        return self._piece(ending.token).decode("utf-8", "replace")
