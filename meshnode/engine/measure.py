"""How fast a model just loaded is: a warm-up, then a prompt and a few tokens of answer, within a time limit."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from meshnode.engine.backend import Backend, Row
from meshnode.engine.vectors import EmbeddingBackend, Piece

_PROMPT = 128
_SHORTEST = 8
_ANSWER = 8


class Speed(NamedTuple):
    """Tokens per second; 0 where the limit left no time to tell."""

    decode_tps: float
    prefill_tps: float


def measure(backend: Backend, clock: Callable[[], float], *, limit_s: float = 0.8) -> Speed:
    """Run sequence 0 and forget it. No batch begins after ``limit_s`` seconds, and a slow model gets a short prompt."""
    deadline = clock() + limit_s
    token = 1 % backend.info.n_vocab
    _time(backend, clock, [Row(0, token, 0, True)])
    single = _time(backend, clock, [Row(0, token, 1, True)])
    backend.remove(0)
    if clock() >= deadline:
        return Speed(_rate(1, single), 0.0)
    affordable = int(0.5 * limit_s / single) if single > 0 else _PROMPT
    length = max(1, min(_PROMPT, max(_SHORTEST, affordable), backend.info.n_ctx - _ANSWER))
    prompt = _time(backend, clock, [Row(0, token, place, place == length - 1) for place in range(length)])
    times = [single]
    while len(times) <= _ANSWER and clock() < deadline:
        times.append(_time(backend, clock, [Row(0, token, length + len(times) - 1, True)]))
    backend.remove(0)
    return Speed(_rate(1, median(times)), _rate(length, prompt))


def measure_embedding(backend: EmbeddingBackend, clock: Callable[[], float]) -> Speed:
    """Embed one input twice, the first time as a warm-up; nothing decodes."""
    length = min(_PROMPT, backend.shape.longest, backend.shape.rows)
    times = []
    for _ in range(2):
        began = clock()
        backend.embed([Piece(0, 0, [0] * length, length)])
        times.append(clock() - began)
    return Speed(0.0, _rate(length, times[1]))


def _time(backend: Backend, clock: Callable[[], float], rows: list[Row]) -> float:
    """Seconds until the batch's output is there (a GPU computes on after ``decode`` has returned)."""
    began = clock()
    backend.decode(rows)
    backend.logits(len(rows) - 1)
    return clock() - began


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
