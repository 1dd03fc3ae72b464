"""The engine's step: schedule, run, commit. Synchronous; the same code in the worker process and in simulations.

*Schedule* decides what to compute (pure), *run* is the one call into the backend, *commit* draws tokens and makes
events. Messages are handled between steps. What goes wrong with one request closes that request and no other.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from meshnode.domain import FinishReason, Kind
from meshnode.engine.admit import Admission
from meshnode.engine.backend import Aborted, Backend, NoSpace
from meshnode.engine.budget import StepBudget
from meshnode.engine.choice import Choice
from meshnode.engine.counting import counted
from meshnode.engine.embedding import Embedder
from meshnode.engine.generation import Generation
from meshnode.engine.memory import Operation
from meshnode.engine.operate import operate
from meshnode.engine.pipe import Cancel, Gauge, Grant, Step, Submit
from meshnode.engine.scheduler import Chunk, QueueFullError, Scheduler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.engine.templates import ChatTemplate
from meshnode.engine.waits import AnswerLength, Left, waits
from meshnode.errors import CapabilityUnavailable, InternalFault, MeshnodeError, Overloaded
from meshnode.events import Event, failure


class _Work(NamedTuple):
    """Tokens a batch computed: of answers, and of prompts."""

    decoded: int
    prefilled: int


_NOTHING = _Work(0, 0)


def _silent(_: str) -> None:
    """Nobody wants to hear of defects."""


def _unwatched(_rows: int, _seconds: float) -> None:
    """Nobody wants to know how long steps take."""


def _scheduler(backend: Backend, *, host_bytes: int, queue_limit: int, most_rows: int) -> Scheduler:
    info = backend.info
    return Scheduler(
        slots=info.n_seq_max,
        cells=info.n_ctx,
        ids=backend.ids,
        cuttable=backend.cuttable,
        host_bytes=host_bytes,
        queue_limit=queue_limit,
        most_rows=most_rows,
    )


class Loop:
    """Requests in, steps out, over one backend, whose cache is its own: what is there is forgotten.

    ``clock`` is monotonic seconds, ``entropy`` gives 64 bits for requests without a seed, ``now`` is the wall clock
    that templates may show. ``step_tokens`` bounds the rows of a step, ``host_bytes`` the states kept beside the
    cache. ``complain`` hears of defects: where, never with what content. ``paced`` hears of each batch how many rows it
    had and how long it took.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        clock: Callable[[], float],
        entropy: Callable[[], int],
        now: Callable[[], datetime],
        step_tokens: int = 512,
        queue_limit: int = 1024,
        host_bytes: int = 0,
        prefill_tps: float = 0.0,
        complain: Callable[[str], None] = _silent,
        paced: Callable[[int, float], None] = _unwatched,
    ) -> None:
        info = backend.info
        template = ChatTemplate(backend.chat_template, bos=backend.bos_text, eos=backend.eos_text, now=now)
        self._backend = backend
        for seq in range(backend.ids):
            backend.remove(seq)
        self._clock = clock
        self._complain = complain
        self._paced = paced
        self._admission = Admission(backend, template, entropy=entropy)
        most = max(step_tokens, info.n_seq_max + 1)
        self._scheduler = _scheduler(backend, host_bytes=host_bytes, queue_limit=queue_limit, most_rows=most)
        self._budget = StepBudget(most, prefill_tps=prefill_tps)
        self._embedder = Embedder(
            backend, most=step_tokens, prefill_tps=prefill_tps, clock=clock, queue_limit=queue_limit
        )
        self._generations: dict[int, Generation] = {}
        self._choices: dict[TokenSequence, Choice] = {}
        self._events: list[tuple[int, Event]] = []
        self._slots = info.n_seq_max
        self._answers = AnswerLength()
        self._queue_changed = False
        self._chunks: tuple[Chunk, ...] = ()
        self._end_tokens: tuple[int, ...] | None = None

    # --- messages -----------------------------------------------------------------------------

    def handle(self, message: Submit | Grant | Cancel) -> None:
        """Take one message. Refusals become events of the next step; numbers that are not known are ignored."""
        if isinstance(message, Submit):
            self._submit(message)
        elif self._embedder.handle(message) or (generation := self._generations.get(message.number)) is None:
            return
        elif isinstance(message, Grant):
            generation.grant(message.tokens, message.prefill)
        else:
            self._queue_changed |= any(choice.sequence.slot is None for choice in generation.choices)
            self._release(generation)
            self._events = [event for event in self._events if event[0] != message.number]

    def prefilling(self, number: int) -> bool:
        """Whether the step under way computes more than one token of the request."""
        chunks = any(chunk.sequence.number == number and chunk.length > 1 for chunk in self._chunks)
        return chunks or self._embedder.computes(number)

    @property
    def yields(self) -> bool:
        """Whether the step under way only embeds, and had better be broken off for a prompt that has come."""
        return self._embedder.yields

    def _submit(self, message: Submit) -> None:
        try:
            if self._beside(message):
                return
            now = self._clock()
            generation = self._admission.admit(message, now)
            if (ending := generation.leader.starved()) is not None:
                self._say(message.number, generation.admit(now))
                for choice in generation.fork():
                    self._say(message.number, generation.end(choice, ending, now))
                return
            self._scheduler.submit(generation.leader)
        except QueueFullError:
            waiting = len(self._scheduler.waiting)
            error = Overloaded(f"{waiting} requests wait already.", hint="Try again later.", retry_after_s=5.0)
            self._events.append((message.number, failure(error)))
        except Exception as error:
            self._refuse(message.number, error)
        else:
            self._generations[message.number] = generation
            self._choices[generation.leader] = generation.choices[0]
            self._queue_changed = True

    def _beside(self, message: Submit) -> bool:
        """Whether it is answered without a sequence. Raises CapabilityUnavailable for what the model does not do."""
        kind, kinds = message.request.kind, self._backend.info.kinds
        if kind is Kind.COUNT:
            self._say(message.number, counted(message.request, self._admission, self._backend, self._clock))
            return True
        if kind.value not in kinds:
            what = f"this model serves {', '.join(kinds)}, not {kind.value}."
            raise CapabilityUnavailable(what, hint="Use another model or endpoint.", param="model")
        if kind not in (Kind.EMBED, Kind.RERANK):
            return False
        self._embedder.submit(message)
        return True

    # --- steps --------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing could be computed or said now: no requests, or all wait for credit or for those who do."""
        return not (self._events or self._queue_changed or self._scheduler.runnable or self._embedder.runnable)

    @property
    def lingers(self) -> bool:
        """Whether a step now and then gives memory back, though nothing is asked."""
        return self._embedder.lingers

    @property
    def limit(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._admission.limit

    def gauge(self) -> Gauge:
        """The scheduler's state between two steps."""
        scheduler = self._scheduler
        return Gauge(
            running=len(scheduler.running) + self._embedder.jobs,
            waiting=len(scheduler.waiting),
            kv_used=scheduler.used,
            kv_total=scheduler.cells,
            kv_idle=scheduler.idle,
        )

    def step(self) -> Step | None:
        """One engine step, or only the events there are to report; ``None`` when there was nothing to do or say."""
        began = self._clock()
        plan = self._scheduler.plan(lambda decoding: self._budget.tokens(decoding=decoding), began)
        lost = self._operate(plan.operations)
        chunks = tuple(chunk for chunk in plan.chunks if chunk.sequence not in lost)
        for sequence in plan.admitted:
            self._say_admitted(sequence, began)
        work = self._run(chunks) if chunks else _NOTHING
        self._embedder.step(self._say, self._refuse, beside=len(chunks))
        if self._queue_changed or plan.admitted or plan.requeued:
            self._announce_queue()
        if not (self._events or plan.chunks):
            return None
        events, self._events = tuple(self._events), []
        return Step(
            events=events,
            gauge=self.gauge(),
            step_ms=1000 * (self._clock() - began),
            decoded=work.decoded,
            prefilled=work.prefilled,
        )

    def _operate(self, operations: Iterable[Operation]) -> list[TokenSequence]:
        """Make the backend's cache what the scheduler counts with; sequences whose state could not be brought back."""
        slots = operate(operations, self._backend, self._scheduler.memory.store)
        lost = [sequence for sequence in self._scheduler.running if sequence.slot in slots]
        for sequence in lost:
            sequence.rewind()  # it is computed instead, from the next plan on
            sequence.cached = sequence.cached if self._generations[sequence.number].started else 0
        return lost

    def _say_admitted(self, sequence: TokenSequence, now: float) -> None:
        generation = self._generations[sequence.number]
        self._say(sequence.number, generation.admit(now))
        if sequence.cached and sequence.fresh == 0:
            # who pays must hear how far the prompt is before paying for the rest
            self._say(sequence.number, generation.prefill(sequence, 0, sequence.computed))

    def _run(self, chunks: tuple[Chunk, ...]) -> _Work:
        """Compute and commit."""
        began = self._clock()
        self._chunks = chunks
        try:
            self._backend.decode([row for chunk in chunks for row in chunk.rows()])
        except NoSpace:
            return self._give_way(chunks)
        except Aborted:
            return self._cut_back(chunks)
        except Exception as error:
            self._cut_back(chunks)
            return self._run_apart(chunks, error)
        finally:
            self._chunks = ()
        now = self._clock()
        work = _Work(
            decoded=sum(1 for chunk in chunks if chunk.sequence.decoding),
            prefilled=sum(chunk.length for chunk in chunks if not chunk.sequence.decoding),
        )
        self._budget.observe(work.decoded, work.prefilled, now - began)
        self._paced(work.decoded + work.prefilled, now - began)
        self._commit(chunks, now)
        return work

    def _commit(self, chunks: Iterable[Chunk], now: float) -> None:
        """Book what was computed, and draw the next token of each sequence whose output is there."""
        row = -1
        for chunk in chunks:
            row += chunk.length
            sequence = chunk.sequence
            choice = self._choices.get(sequence)
            if choice is None:
                continue  # another answer to the same request failed, and took this one along
            generation = self._generations[sequence.number]
            try:
                if not sequence.decoding:
                    done = sequence.computed + chunk.length
                    self._say(sequence.number, generation.prefill(sequence, sequence.computed, done))
                sequence.advance(chunk.length)
                if chunk.last:
                    self._draw(generation, choice, row, now)
            except Exception as error:
                self._fail(generation, error)

    def _draw(self, generation: Generation, drawing: Choice, row: int, now: float) -> None:
        """Draw the next token of an answer; at the end of a prompt, the first token of every answer to it."""
        logits = self._backend.logits(row)
        for choice in (drawing,) if drawing.sequence.output_length else generation.fork():
            sequence = choice.sequence
            token = choice.draw(logits, self._banned(sequence) if sequence.bans_ending() else ())
            ending = choice.ending(sequence.accept(token, ends_generation=self._backend.ends_generation(token)))
            self._say(generation.number, generation.take(choice, token, ending, now))
            if not (choice.closed or choice is drawing):
                self._scheduler.submit(sequence)
                self._choices[sequence] = choice
        if generation.closed:
            self._release(generation)
        elif drawing.closed:
            self._drop(drawing)

    def _banned(self, sequence: TokenSequence) -> tuple[int, ...]:
        """Tokens that must not come next: the end tokens, and the caller's own while too few came."""
        if self._end_tokens is None:
            every = range(self._backend.info.n_vocab)
            self._end_tokens = tuple(token for token in every if self._backend.ends_generation(token))
        stops = sequence.stopping.stop_token_ids
        if sequence.bans_stop_ids():
            return (*self._end_tokens, *stops)
        return tuple(token for token in self._end_tokens if token not in stops)

    # --- what can go wrong --------------------------------------------------------------------

    def _cut_back(self, chunks: Iterable[Chunk]) -> _Work:
        """Forget what a batch that was broken off may have left of these sequences."""
        for sequence, _, _ in chunks:
            if sequence.slot is not None and not self._backend.remove(sequence.slot, sequence.computed):
                self._backend.remove(sequence.slot)  # a memory that cannot be cut is computed again
                sequence.rewind()
        return _NOTHING

    def _give_way(self, chunks: tuple[Chunk, ...]) -> _Work:
        """The backend has fewer cells than were counted: the next plan makes do with less, or the only one ends."""
        if self._scheduler.tighten(sum(chunk.length for chunk in chunks)):
            return _NOTHING
        sequence = chunks[0].sequence
        generation, choice = self._generations[sequence.number], self._choices[sequence]
        if sequence.output_length:
            self._say(sequence.number, generation.end(choice, Ending(FinishReason.LENGTH), self._clock()))
            self._drop(choice)
        else:
            self._fail(generation, Overloaded("the model's memory is full.", hint="Shorten the prompt."))
        return _NOTHING

    def _run_apart(self, chunks: tuple[Chunk, ...], error: Exception) -> _Work:
        """A batch failed: run its sequences one by one, so that only those fail that fail alone."""
        if len(chunks) == 1:
            self._fail(self._generations[chunks[0].sequence.number], error)
            return _NOTHING
        done = _NOTHING
        for sequence, length, _ in chunks:
            if sequence.slot is not None:
                some = min(length, sequence.pending)
                work = self._run((Chunk(sequence, some, some == sequence.pending),))
                done = _Work(done.decoded + work.decoded, done.prefilled + work.prefilled)
        return done

    def _fail(self, generation: Generation, error: Exception) -> None:
        self._release(generation, keep=False)
        self._refuse(generation.number, error)

    def _refuse(self, number: int, error: Exception) -> None:
        """Close a request with an error; one that was not raised on purpose is a defect, and says where it is."""
        if not isinstance(error, MeshnodeError):
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._complain(f"{type(error).__name__} at {place.filename}:{place.lineno}")
            error = InternalFault("the engine failed on this request.", hint="The log of the model says where.")
        self._events.append((number, failure(error)))

    # --- book-keeping -------------------------------------------------------------------------

    def _release(self, generation: Generation, *, keep: bool = True) -> None:
        """Forget a request and all its answers; what was computed for them may serve the next one if ``keep``."""
        for choice in generation.choices:
            self._drop(choice, keep=keep)
        self._generations.pop(generation.number, None)

    def _drop(self, choice: Choice, *, keep: bool = True) -> None:
        """Forget one answer; the last one takes its request along."""
        sequence = choice.sequence
        self._operate(self._scheduler.release(sequence, keep=keep))
        self._choices.pop(sequence, None)
        if choice.closed:
            self._answers.observe(sequence.output_length)
        generation = self._generations.get(sequence.number)
        if generation is not None and generation.closed:
            del self._generations[sequence.number]

    def _say(self, number: int, events: Iterable[Event]) -> None:
        self._events += [(number, event) for event in events]

    def _announce_queue(self) -> None:
        self._queue_changed = False
        waiting = self._scheduler.waiting
        left, running = ([self._left(s) for s in some] for some in (waiting, self._scheduler.running))
        pace = {"prefill_tps": self._budget.prefill_tps, "step_s": self._budget.step_s}
        guesses = waits(running, left, self._slots, **pace) or itertools.repeat(None)
        for position, (sequence, estimate_s) in enumerate(zip(waiting, guesses, strict=False), 1):
            self._say(sequence.number, self._generations[sequence.number].queue(position, estimate_s))

    def _left(self, sequence: TokenSequence) -> Left:
        answer = self._answers.left(sequence.output_length, sequence.stopping.max_tokens)
        return Left(max(0, sequence.pending - 1), answer)
