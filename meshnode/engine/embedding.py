"""Embeddings and rankings beside generation: which inputs the next batch computes, and what becomes of their vectors.

Inputs of all requests share batches. At most one batch is computed in a step of the engine, beside streams of as many
tokens as the budget of a prompt's chunk allows, so that these go on. A larger one is broken off when a prompt comes.
Requests are served by class, inside a class by the tokens they had, so that one of two thousand inputs does not keep
one of a single input waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from meshnode.domain import GenerationRequest, Kind
from meshnode.engine.backend import Aborted, Backend
from meshnode.engine.budget import StepBudget
from meshnode.engine.pipe import UNLIMITED, Cancel, Grant, Submit
from meshnode.engine.vectors import Piece, Vector, finished_vector, score_of
from meshnode.errors import ContextLengthExceeded, InvalidField, ModelFailed, Overloaded
from meshnode.events import EmbeddingResult, Event, Finished, Prefilling, RerankResult, Started, Timings, Usage

MOST_TOKENS: Final = 300_000
"""Tokens of all inputs of one request together; OpenAI's own bound."""
MOST_CHARACTERS: Final = 1 << 20
"""Characters of one input; to tokenise them takes a third of a second."""
IDLE_S: Final = 60.0
"""Seconds without an input after which what embeds gives its memory back."""
_READ: Final = 1 << 17
"""Characters tokenised in one step, at least one input."""


Say = Callable[[int, Iterable[Event]], None]
"""Hears the events of a request, by its number."""
Fail = Callable[[int, Exception], None]
"""Hears of a request that ended with an error."""


class _Input:
    """One input on its way: ``done`` of its tokens are computed."""

    def __init__(self, index: int, tokens: Sequence[int]) -> None:
        self.index = index
        self.tokens = tokens
        self.done = 0
        self.seq: int | None = None


class _Job:
    """One request. ``allowed`` of its tokens may be computed, ``None`` is all; ``served`` is its place in its class."""

    def __init__(self, submit: Submit, now: float) -> None:
        self.number = submit.number
        self.request: GenerationRequest = submit.request
        self.allowed = None if submit.prefill == UNLIMITED else submit.prefill
        self.served = 0
        self.ranks = submit.request.kind is Kind.RERANK
        self.given = submit.request.documents if self.ranks else submit.request.inputs
        self.unread = deque(enumerate(self.given))
        self.inputs: deque[_Input] = deque()
        self.total = 0
        self.done = 0
        self.left = len(self.given)
        self.submitted = now
        self.started: float | None = None

    @property
    def rank(self) -> tuple[int, int, int]:
        return (self.request.service_class, self.served, self.number)

    @property
    def granted(self) -> bool:
        begun = bool(self.inputs) and self.inputs[0].done > 0
        return begun or self.may_begin(0)

    def may_begin(self, ahead: int) -> bool:
        return self.allowed is None or self.done + ahead < self.allowed

    @property
    def ready(self) -> bool:
        return self.started is not None and bool(self.inputs) and self.granted

    def charge(self, tokens: int) -> None:
        self.served += tokens
        self.done += tokens


class _Part(NamedTuple):
    job: _Job
    input: _Input
    piece: Piece


class Embedder:
    """The embedding requests of one model.

    A batch has at most ``most`` tokens; beside streams as few as a chunk of a prompt, by ``prefill_tps`` (tokens per
    second, 0 if not measured) at first.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        most: int,
        prefill_tps: float,
        clock: Callable[[], float],
        queue_limit: int = 1024,
    ) -> None:
        self._model = backend
        self._backend = backend.embedding()
        self._shape = self._backend.shape
        self._n_vocab = backend.info.n_vocab
        self._most = most
        self._budget = StepBudget(most, prefill_tps=prefill_tps)
        self._clock = clock
        self._queue_limit = queue_limit
        self._jobs: dict[int, _Job] = {}
        self._cut: _Input | None = None
        self._alone = 0
        self._quiet = False
        self._computing: frozenset[int] = frozenset()
        self._used_at = clock()

    # --- what is asked of it ------------------------------------------------------------------

    @property
    def jobs(self) -> int:
        """Requests under way."""
        return len(self._jobs)

    @property
    def runnable(self) -> bool:
        """Whether the next step would compute or say anything."""
        return any(job.ready or (job.granted and job.started is None) for job in self._jobs.values())

    @property
    def lingers(self) -> bool:
        """Whether there is memory to be given back when nobody asks for a while: step it now and then."""
        return not self._jobs and self._backend.idle_memory

    def computes(self, number: int) -> bool:
        """Whether the batch under way is for this request alone."""
        return self._computing == {number}

    @property
    def yields(self) -> bool:
        """Whether the batch under way had better be broken off for a prompt that has come: it may be a large one."""
        return self._quiet and bool(self._computing)

    def submit(self, submit: Submit) -> None:
        """Take a request. Raises InvalidField, Overloaded."""
        if len(self._jobs) >= self._queue_limit:
            text = f"{len(self._jobs)} embedding requests wait already."
            raise Overloaded(text, hint="Try again later.", retry_after_s=5.0)
        request, width = submit.request, self._shape.width
        if request.kind is Kind.RERANK and not (request.documents and request.query):
            raise InvalidField("there is no query, or no document.", hint="Send both.", param="query")
        if request.kind is Kind.EMBED and not request.inputs:
            raise InvalidField("there is no input.", hint="Send at least one.", param="input")
        if request.dimensions is not None and not 0 < request.dimensions <= width:
            text = f"dimensions is {request.dimensions}; the vectors of this model have {width} numbers."
            raise InvalidField(text, hint=f"Allowed: 1 to {width}.", param="dimensions")
        job = self._jobs[submit.number] = _Job(submit, self._clock())
        rivals = [other.served for other in self._of_class(job) if other is not job]
        job.served = min(rivals, default=0)

    def handle(self, message: Grant | Cancel) -> bool:
        """Whether the message was for a request of this embedder; then it is heeded."""
        job = self._jobs.get(message.number)
        if job is None:
            return False
        if isinstance(message, Cancel):
            self._drop(job)
        elif job.allowed is not None:
            job.allowed += max(0, message.prefill)
        return True

    def step(self, say: Say, fail: Fail, *, beside: int) -> None:
        """Read inputs and compute at most one batch, beside ``beside`` decoding sequences."""
        if not self._jobs:
            if self._backend.idle_memory and self._clock() - self._used_at >= IDLE_S:
                self._backend.release()
            return
        self._read(say, fail)
        self._quiet = not beside
        room = self._budget.tokens(decoding=beside) if beside else self._most
        parts = self._pack(min(room, self._shape.rows))
        if parts:
            self._run(parts, say, fail)
        self._used_at = self._clock()

    def _of_class(self, job: _Job) -> list[_Job]:
        return [one for one in self._jobs.values() if one.request.service_class is job.request.service_class]

    def _drop(self, job: _Job) -> None:
        del self._jobs[job.number]
        if self._cut is not None and self._cut in job.inputs:
            assert self._cut.seq is not None, "what was begun has a sequence"
            self._backend.forget(self._cut.seq)
            self._cut = None

    # --- from texts to tokens -----------------------------------------------------------------

    def _read(self, say: Say, fail: Fail) -> None:
        """Tokenise some of what is unread; a request starts when all of it is read."""
        room = _READ
        for job in sorted(self._jobs.values(), key=lambda job: job.rank):
            if job.started is not None or not job.granted:
                continue
            try:
                while job.unread and room > 0:
                    index, given = job.unread.popleft()
                    room -= len(given) + len(job.request.query)
                    self._take(job, index, given)
            except Exception as error:
                self._drop(job)
                fail(job.number, error)
                continue
            if job.unread:
                return
            job.started = self._clock()
            say(job.number, [Started(job.total)])

    def _take(self, job: _Job, index: int, given: str | tuple[int, ...]) -> None:
        param = f"documents[{index}]" if job.ranks else f"input[{index}]"
        size = len(given) + len(job.request.query)
        if size > MOST_CHARACTERS:
            text = f"{param} has {size} characters or token ids; at most {MOST_CHARACTERS} are read."
            raise InvalidField(text, hint="Cut it into several inputs.", param=param)
        tokens = list(given) if isinstance(given, tuple) else self._tokens(job, given)
        if not given or not tokens:
            raise InvalidField(f"{param} is empty.", hint="Leave it out.", param=param)
        stranger = next((token for token in tokens if not 0 <= token < self._n_vocab), None)
        if stranger is not None:
            hint = f"Use token ids from 0 to {self._n_vocab - 1}."
            raise InvalidField(f"{param} has {stranger}, which is no token of this model.", hint=hint, param=param)
        if len(tokens) > self._shape.longest:
            text = f"{param} has {len(tokens)} tokens; the model takes {self._shape.longest} in one input."
            raise ContextLengthExceeded(text, hint="Cut it into several inputs.", param=param)
        job.total += len(tokens)
        if job.total > MOST_TOKENS:
            text = f"the inputs up to {param} have {job.total} tokens together; a request may have {MOST_TOKENS}."
            raise ContextLengthExceeded(text, hint="Send them in several requests.", param=param.partition("[")[0])
        job.inputs.append(_Input(index, tokens))

    def _tokens(self, job: _Job, text: str) -> list[int]:
        if job.ranks:
            return self._model.pair(job.request.query, text)
        return self._model.tokenize(text, add_special=True, parse_special=True)

    # --- batches ------------------------------------------------------------------------------

    def _pack(self, room: int) -> list[_Part]:
        """The next batch: what was begun, then an input of whoever had least, until ``room`` tokens are taken."""
        parts: list[_Part] = []
        taken: dict[int, int] = {}
        most = 1 if self._alone else self._shape.sequences
        ready = {job.number: deque(job.inputs) for job in self._jobs.values() if job.ready}
        while room > 0 and len(parts) < most and ready:
            number = min(ready, key=lambda one: self._order(self._jobs[one], taken.get(one, 0)))
            job, entry = self._jobs[number], ready[number].popleft()
            length = len(entry.tokens) - entry.done
            if parts and length > (room if self._shape.whole else self._shape.rows):
                break  # it begins the next batch
            length = length if self._shape.whole else min(length, room)
            parts.append(self._part(job, entry, length, parts))
            room -= length
            taken[number] = taken.get(number, 0) + length
            if not ready[number] or not job.may_begin(taken[number]):
                del ready[number]
        return parts

    def _order(self, job: _Job, taken: int) -> tuple[bool, int, int, int]:
        service_class, served, number = job.rank
        begun = self._cut is not None and self._cut in job.inputs and not taken
        return (not begun, service_class, served + taken, number)

    def _part(self, job: _Job, entry: _Input, length: int, parts: Sequence[_Part]) -> _Part:
        if entry.seq is None:
            used = {part.piece.seq for part in parts}
            entry.seq = next(seq for seq in range(self._shape.sequences) if seq not in used)
        tokens = entry.tokens[entry.done : entry.done + length]
        return _Part(job, entry, Piece(entry.seq, entry.done, tokens, len(entry.tokens)))

    def _run(self, parts: list[_Part], say: Say, fail: Fail) -> None:
        """Compute a batch. One that fails is computed again input by input, so that only those fail that fail alone."""
        began = self._clock()
        self._computing = frozenset(part.job.number for part in parts)
        try:
            vectors = self._backend.embed([part.piece for part in parts])
        except Exception as error:
            self._put_back(parts)
            if not isinstance(error, Aborted) and len(parts) == 1:
                self._drop(parts[0].job)
                fail(parts[0].job.number, error)
            elif not isinstance(error, Aborted):
                self._alone = len(parts) + 1
            return
        finally:
            self._computing = frozenset()
            self._alone = max(0, self._alone - 1)
        self._budget.observe(0, sum(len(part.piece.tokens) for part in parts), self._clock() - began)
        self._commit(parts, iter(vectors), say, fail)

    def _put_back(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            self._backend.forget(part.piece.seq)
            part.job.charge(-part.input.done)
            part.input.done, part.input.seq = 0, None
        self._cut = None

    def _commit(self, parts: Sequence[_Part], vectors: Iterator[Vector], say: Say, fail: Fail) -> None:
        self._cut = None
        results: dict[int, list[Event]] = {}
        for job, entry, piece in parts:
            pooled = next(vectors) if piece.last else None
            if job.number not in self._jobs:  # an input of its own before this one gave no vector
                self._backend.forget(piece.seq)
                continue
            entry.done += len(piece.tokens)
            job.charge(len(piece.tokens))
            said = results.setdefault(job.number, [])
            if pooled is None:
                self._cut = entry
                continue
            job.inputs.popleft()
            job.left -= 1
            try:
                said.append(_result(job, entry.index, pooled))
            except ModelFailed as error:
                self._drop(job)
                fail(job.number, error)
        for number, said in results.items():
            if number in self._jobs:
                say(number, self._told(self._jobs[number], said))

    def _told(self, job: _Job, results: Sequence[Event]) -> Iterator[Event]:
        """How far it is, where it takes several batches; the vectors; and its end with the last of them."""
        if job.left or len(results) < len(job.given):
            yield Prefilling(job.done, job.total)
        yield from results
        if not job.left:
            del self._jobs[job.number]
            started = job.submitted if job.started is None else job.started
            times = Timings(queue_ms=1000 * (started - job.submitted), prompt_ms=1000 * (self._clock() - started))
            yield Finished(Usage(prompt_tokens=job.total), times)


def _result(job: _Job, index: int, pooled: Vector) -> Event:
    """Raises ModelFailed for what is not finite."""
    if job.ranks:
        return RerankResult(index, score_of(pooled))
    return EmbeddingResult(index, finished_vector(pooled, job.request.dimensions))
