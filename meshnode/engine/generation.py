"""One request on its way through the engine: its answers, what it may spend, and its events. Pure; times are arguments.

The order of events is the pipe's: ``Queued*``, ``Started``, ``Prefilling*``, then those of the answers in any mixture
(``TextDelta*``, ``ChoiceFinished`` of each), ``Finished``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshnode.engine.choice import Choice
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.events import Event, Finished, Prefilling, Queued, Started, Timings, Usage

MakeChoice = Callable[[int, TokenSequence], Choice]
"""Makes answer number ``index`` of a request over a sequence that holds its prompt."""


class Generation:
    """Request ``number`` for ``count`` answers. ``leader`` is the sequence that computes the prompt, of which
    ``dropped`` messages were left out.

    The other answers begin at :meth:`fork`, once the prompt is computed; till then there is only the first.
    """

    def __init__(
        self,
        number: int,
        leader: TokenSequence,
        make: MakeChoice,
        *,
        count: int,
        seed: int,
        now: float,
        dropped: int = 0,
    ) -> None:
        self.number = number
        self.leader = leader
        self.choices: tuple[Choice, ...] = (make(0, leader),)
        self._make = make
        self._count = count
        self._seed = seed
        self._dropped = dropped
        self._position = 0
        self._submitted = now
        self._admitted: float | None = None
        self._first_token: float | None = None

    @property
    def closed(self) -> bool:
        """Whether every answer has ended."""
        return len(self.choices) == self._count and all(choice.closed for choice in self.choices)

    @property
    def started(self) -> bool:
        """Whether it was ever admitted."""
        return self._admitted is not None

    def fork(self) -> tuple[Choice, ...]:
        """All answers, begun; called when the prompt is computed and nothing is drawn from it yet."""
        if len(self.choices) < self._count:
            followers = [self.leader.fork(index) for index in range(1, self._count)]
            self.choices += tuple(self._make(index, follower) for index, follower in enumerate(followers, 1))
            self._share(self.leader.take_credit())
        return self.choices

    def grant(self, tokens: int, prefill: int) -> None:
        """Allow ``tokens`` more positions of the answers, all together, and ``prefill`` more of the prompt."""
        self.leader.grant(0, prefill)
        self._share(tokens)

    def _share(self, tokens: int) -> None:
        """Deal credit out to the answers that go on, so that none runs ahead of the others."""
        going = [choice.sequence for choice in self.choices if not choice.closed]
        each, rest = divmod(max(0, tokens), max(1, len(going)))
        for place, sequence in enumerate(sorted(going, key=lambda s: s.output_length + s.credit)):
            sequence.grant(each + (place < rest))

    def queue(self, position: int, estimate_s: float | None = None) -> Iterator[Event]:
        """It is number ``position`` of the queue now; said once per place, and not of what was pre-empted."""
        if position != self._position and not self.started:
            self._position = position
            yield Queued(position, estimate_s)

    def admit(self, now: float) -> Iterator[Event]:
        """It has a slot; nothing is said when it comes back from pre-emption."""
        if not self.started:
            self._admitted = now
            yield Started(self.leader.prompt_length, self.leader.cached, self._seed, self._dropped)

    def prefill(self, sequence: TokenSequence, start: int, done: int) -> Iterator[Event]:
        """Positions ``start`` up to ``done`` were computed; said of prompts longer than one chunk."""
        total = self.leader.prompt_length
        if sequence is self.leader and sequence.output_length == 0 and (start > 0 or done < total):
            yield Prefilling(done, total)

    def take(self, choice: Choice, token: int, ending: Ending | None, now: float) -> Iterator[Event]:
        """A token of one answer was drawn and appended; the last events of answer and request if they end here."""
        if self._first_token is None:
            self._first_token = now
        yield from choice.take(token, ending)
        yield from self._closing(choice, now)

    def end(self, choice: Choice, ending: Ending, now: float) -> Iterator[Event]:
        """End one answer without another token."""
        yield from choice.end(ending)
        yield from self._closing(choice, now)

    def _closing(self, choice: Choice, now: float) -> Iterator[Event]:
        """What follows the end of an answer: its credit goes to the others; the last of them closes the request."""
        if self.closed:
            yield Finished(self._usage(), self._timings(now))
        elif choice.closed:
            self._share(choice.sequence.take_credit())

    def _usage(self) -> Usage:
        completed = sum(choice.sequence.output_length for choice in self.choices)
        prompt, cached = self.leader.prompt_length, self.leader.cached
        reasoned = sum(choice.reasoned for choice in self.choices)
        return Usage(prompt_tokens=prompt, completion_tokens=completed, cached_tokens=cached, reasoning_tokens=reasoned)

    def _timings(self, now: float) -> Timings:
        admitted = now if self._admitted is None else self._admitted
        first = now if self._first_token is None else self._first_token
        return Timings(
            queue_ms=1000 * (admitted - self._submitted),
            prompt_ms=1000 * (first - admitted),
            predicted_ms=1000 * (now - first),
        )
