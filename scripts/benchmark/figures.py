"""What ``scripts/bench_engine`` measures, what counts as good, and the arithmetic on it. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

OURS: Final = "meshnode"
THEIRS: Final = "llama-server"

Rounds = Mapping[str, Mapping[str, Sequence[float]]]
"""By figure's key, by server: one number per round."""


class Bar(NamedTuple):
    """What a figure must reach: a gain over the other server, or a value of our own (at least or at most)."""

    gain: float | None = None
    least: float | None = None
    most: float | None = None

    def met(self, ours: float, gain: float | None) -> bool | None:
        """Whether it is reached; None where the other server's figure is missing."""
        if self.gain is not None:
            return None if gain is None else gain >= self.gain
        return (self.least is None or ours >= self.least) and (self.most is None or ours <= self.most)

    def __str__(self) -> str:
        if self.gain is not None:
            return f"≥ {self.gain:.3g} ×"
        return f"≥ {self.least:.3g}" if self.least is not None else f"≤ {self.most:.3g}"


class Figure(NamedTuple):
    """A row of the table; ``load`` is what measures it (a name in :data:`LOADS`)."""

    load: str
    key: str
    title: str
    unit: str
    more_is_better: bool
    bar: Bar | None = None


def _more(load: str, key: str, title: str, unit: str, bar: Bar | None = None) -> Figure:
    return Figure(load, key, title, unit, True, bar)


def _less(load: str, key: str, title: str, unit: str, bar: Bar | None = None) -> Figure:
    return Figure(load, key, title, unit, False, bar)


FIGURES: Final = (
    _more("one", "tokens_per_s_1", "1 stream: tokens", "tok/s", Bar(gain=0.98)),
    _less("one", "first_token_ms_1", "1 stream: time to first token", "ms"),
    _more("eight", "tokens_per_s_8", "8 streams: tokens", "tok/s", Bar(gain=0.97)),
    _less("eight", "first_token_ms_8", "8 streams: time to first token", "ms"),
    _more("sixteen", "tokens_per_s_16", "16 streams: tokens", "tok/s", Bar(gain=0.97)),
    _less("sixteen", "first_token_ms_16", "16 streams: time to first token", "ms"),
    _less("shared", "shared_prefix_s", "16 streams, one ~900-token prefix: all have begun", "s", Bar(gain=8.0)),
    _less("turns", "turn_ms", "8 conversations × 6 turns: time to first token, p50", "ms", Bar(gain=1.0)),
    _less("question", "question_ms", "short question during a ~4 k prefill: first token", "ms", Bar(gain=10.0)),
    _less("gaps", "gap_ms", "4 streams during a ~4 k prefill: gap between tokens, p99", "ms", Bar(gain=20.0)),
    _less("gaps", "long_prompt_s", "that ~4 k prompt: time to first token", "s", Bar(gain=0.8)),
    _more("schema", "schema_share", "JSON-schema output: speed ÷ free output", "", Bar(least=0.9)),
    _more("crowd", "crowd_answered", "200 clients at once: answered", "of 200", Bar(least=200.0)),
    _more("crowd", "crowd_order", "200 clients: first tokens in order of arrival", "ρ", Bar(least=0.9)),
    _less("crowd", "crowd_growth_mib", "200 clients: resident memory grew by", "MiB", Bar(most=16.0)),
    _less("memory", "rss_mib", "resident, idle (RSS)", "MiB", Bar(gain=1 / 1.5)),
    _less("memory", "pss_mib", "resident, idle (PSS)", "MiB"),
    _more("embeddings", "texts_per_s", "embeddings, 64 texts × ~100 tokens", "texts/s", Bar(gain=1.0)),
    _less("start", "start_s", "start to first answer", "s"),
)
"""All rows, in the table's order. The bars are the project's; a gain is how many times better than the other server."""

LOADS: Final = tuple(dict.fromkeys(figure.load for figure in FIGURES))
ONCE: Final = ("shared", "crowd")
"""Unless told otherwise, measured in the first round alone: they take a minute or more, and their bars are far off."""


class Outcome(NamedTuple):
    """A figure with its medians by server, our gain over the other one, and whether the bar is met."""

    figure: Figure
    medians: Mapping[str, float]
    gain: float | None
    met: bool | None


def outcome(figure: Figure, rounds: Rounds) -> Outcome:
    """What came of one figure; ``met`` is None without a bar, or without the numbers to judge by."""
    medians = {name: statistics.median(values) for name, values in rounds.get(figure.key, {}).items() if values}
    gain = None
    if medians.keys() >= {OURS, THEIRS}:
        gain = gained(medians[OURS], medians[THEIRS], more_is_better=figure.more_is_better)
    met = figure.bar.met(medians[OURS], gain) if figure.bar and OURS in medians else None
    return Outcome(figure, medians, gain, met)


def gained(ours: float, theirs: float, *, more_is_better: bool) -> float | None:
    """How many times better ours is; None where a zero or a negative number leaves no ratio."""
    above, below = (ours, theirs) if more_is_better else (theirs, ours)
    return above / below if above > 0 and below > 0 else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all do not exceed (nearest rank). Raises ValueError."""
    if not values:
        raise ValueError("there are no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def gaps_during(arrivals: Sequence[float], begin: float, end: float) -> list[float]:
    """Seconds between neighbours in ``arrivals``, of those gaps that reach into ``begin`` to ``end``.

    A stream that stands still until after ``end`` has one long gap, and it counts whole.
    """
    pairs = itertools.pairwise(arrivals)
    return [after - before for before, after in pairs if after > begin and before < end]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's ρ of two lists of equal length: 1 where both have the same order. Raises ValueError below two."""
    if len(one) < 2 or len(one) != len(other):
        raise ValueError("a rank correlation takes two lists of equal length, of two values or more")
    if len(set(one)) == 1 or len(set(other)) == 1:
        return 0.0
    return statistics.correlation(_ranks(one), _ranks(other))


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal ones share the mean of theirs."""
    ordered = sorted(values)
    mean_of = {value: ordered.index(value) + (ordered.count(value) - 1) / 2 for value in set(values)}
    return [mean_of[value] for value in values]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of (x, y) points; 0 for fewer than two, or where x does not vary."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope
