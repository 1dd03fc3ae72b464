"""Which number of threads is the fastest here and now, by trying some on the model just loaded; then, how fast it is.

Decoding and reading prompts are measured apart: one waits for memory, the other for arithmetic. Each candidate gets a
short time, all together less than a second, and the first (the proposed one) is always among them. A number that the
owner set is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshnode.engine.backend import Backend, Row
from meshnode.engine.threads import BusyRule, Cores, Expected, candidates, described, proposed

_STEPS = 3
_CHUNK, _SHORTEST = 32, 8
BETTER = 1.05
"""How many times as fast a larger number of threads must be to be worth its cores."""
WHOLE_MACHINE = 1.2
"""The same for all cores: the rest of the machine waits for them."""
_EACH_S = 0.3
_ALL_S = 0.9


class Choice(NamedTuple):
    """Threads for decoding and for reading prompts, and why, in a sentence."""

    decode: int
    prefill: int
    reason: str


class Trial(NamedTuple):
    """A candidate's seconds per decoded token, and per token of a prompt (0: there was no time to measure it)."""

    threads: int
    decode_s: float
    prefill_s: float = 0.0


def tune(backend: Backend, clock: Callable[[], float], cores: Cores, *, prefill: int = 0) -> Choice:
    """Try the candidates, leave the backend on the best, and forget what was computed.

    ``prefill`` is what the owner set for reading prompts; 0 chooses that too.
    """
    offered = candidates(cores)
    if len(offered) == 1:
        only, prompts = offered[0], prefill or offered[0]
        backend.set_threads(only, prompts)
        return Choice(only, prompts, f"{only}: {described(cores)}; there is no other to try")
    deadline, took = clock() + _ALL_S, 0.0
    trials: list[Trial] = []
    for threads in offered:
        began = clock()
        if trials and began + took > deadline:
            break
        trials.append(_tried(backend, clock, threads))
        took = clock() - began
    choice = chosen(trials, cores, prefill=prefill)
    backend.set_threads(choice.decode, choice.prefill)
    return choice


def chosen(trials: Sequence[Trial], cores: Cores, *, prefill: int = 0) -> Choice:
    """The fastest of what was tried; of those nearly as fast, the one with the fewest threads. Pure."""
    decode = _best([(trial.threads, trial.decode_s) for trial in trials], cores)
    prefill = prefill or _best([(trial.threads, trial.prefill_s) for trial in trials if trial.prefill_s > 0], cores)
    if len(trials) == 1:
        why = f"{described(cores)}; the model is too slow to try others within a second"
    else:
        speeds = ", ".join(f"{_rate(trial.decode_s)} with {trial.threads}" for trial in trials)
        why = f"{described(cores)}; measured at load: {speeds} tokens/s"
    default = proposed(cores)
    prompts = prefill or decode or default
    return Choice(decode or default, prompts, f"{decode or default} to decode, {prompts} to read prompts: {why}")


def _best(timed: Sequence[tuple[int, float]], cores: Cores) -> int:
    """The number of threads that is worth its cores; 0 where nothing was timed."""
    best, best_s = 0, 0.0
    for threads, seconds in sorted(timed):
        margin = WHOLE_MACHINE if threads >= cores.total > 1 else BETTER
        if not best or seconds * margin < best_s:
            best, best_s = threads, seconds
    return best


def _tried(backend: Backend, clock: Callable[[], float], threads: int) -> Trial:
    """Time one candidate on sequence 0; the first step is for waking the threads and is not counted."""
    backend.set_threads(threads, threads)
    began = clock()
    token = 1 % backend.info.n_vocab
    _step(backend, clock, [Row(0, token, 0, True)])
    times: list[float] = []
    while len(times) < _STEPS and (not times or clock() - began < _EACH_S / 2):
        times.append(_step(backend, clock, [Row(0, token, len(times) + 1, True)]))
    backend.remove(0)
    prefill_s = 0.0
    affordable = (_EACH_S - (clock() - began)) / max(min(times), 1e-6)
    length = min(_CHUNK, backend.info.n_ctx - 1, int(affordable))
    if length >= _SHORTEST:
        rows = [Row(0, token, place, place == length - 1) for place in range(length)]
        prefill_s = _step(backend, clock, rows) / length
        backend.remove(0)
    return Trial(threads, min(times), prefill_s)


def _step(backend: Backend, clock: Callable[[], float], rows: list[Row]) -> float:
    """Seconds until the batch's output is there."""
    began = clock()
    backend.decode(rows)
    backend.logits(len(rows) - 1)
    return clock() - began


def _rate(seconds: float) -> str:
    return f"{1 / seconds:.0f}" if seconds > 0 else "many"


class Pacer:
    """Watches a loop's steps, and lets a backend use fewer threads while the box is busy (:class:`BusyRule`)."""

    def __init__(
        self, backend: Backend, clock: Callable[[], float], expected: Expected, *, decode: int, prefill: int
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._expected = expected
        self._best, self._prefill = decode, prefill
        self._rule = BusyRule(decode)

    @property
    def threads(self) -> int:
        """The number that decodes now."""
        return self._rule.threads

    def observe(self, rows: int, seconds: float) -> None:
        """A step of ``rows`` took so long."""
        threads = self._rule.observe(self._expected.slowness(rows, seconds), self._clock())
        if threads is not None:
            prefill = self._prefill if threads >= self._best else min(threads, self._prefill)
            self._backend.set_threads(threads, prefill)
