"""Chooses the next token from a row of logits. Pure: the same arguments give the same token, in any batch.

The order is llama.cpp's (``common_sampler_init``): logit bias, penalties, then top-k, top-p, min-p, temperature.
What acts on the whole row stands in ``Sampler._adjusted`` (DRY and top-n-sigma belong there too), what
narrows the candidates in ``Sampler._filters``, in order (typical after top-k, XTC before temperature). The last step is
our own: the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka 2014), which draws from the softmax by taking the
largest of logit plus noise. The noise is a function of (seed, choice, output position, token id) and nothing else, so
that a seed repeats whatever the batch, an answer can be continued elsewhere, and a drawn token can be checked.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.errors import InvalidField, ModelFailed

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
"""SplitMix64's increment: 2**64 divided by the golden ratio, made odd."""
_COLDEST = 1e-30
"""Temperatures under this act like it: dividing by less would overflow."""


class Candidates(NamedTuple):
    """Tokens still possible and their logits; best first, equal logits by id."""

    tokens: NDArray[np.int64]
    logits: NDArray[np.float64]


# --- noise ------------------------------------------------------------------------------------


def _mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014; constants: Stafford's Mix13) of a 64-bit number."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mix_all(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """:func:`_mix` of each number; uint64 arithmetic wraps."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def noise(seed: int, choice: int, position: int, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard Gumbel noise for each token id.

    The bits are nested SplitMix64 streams: output number ``choice`` of the stream begun at the mixed seed begins
    a stream, whose output number ``position`` begins another, whose output number ``token`` gives, in its upper
    52 bits, the middle of one of 2**52 equal parts of (0, 1); both logarithms are therefore finite.
    """
    stream = _mix(seed & _MASK)
    for index in (choice, position):
        stream = _mix((stream + (index + 1) * _GAMMA) & _MASK)
    bits = _mix_all(np.uint64(stream) + (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA))
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    gumbel: NDArray[np.float64] = -np.log(-np.log(uniform))
    return gumbel


# --- which candidates -------------------------------------------------------------------------


def best(row: Logits, k: int) -> Candidates:
    """The ``k`` largest logits; at the border lower ids go first. Exact, and cheap where ``k`` is small."""
    tokens = np.flatnonzero(row >= _reached(row, k)) if k < row.size else np.arange(row.size)
    logits = row[tokens].astype(np.float64)
    order = np.argsort(-logits, kind="stable")[:k]
    return Candidates(tokens[order], logits[order])


def _reached(row: Logits, k: int) -> np.float32:
    """A number that at least ``k`` logits reach, seldom many more.

    The row is dealt into lanes. The k-th largest of the lanes' maxima will do, for each of ``k`` lanes has a logit that
    reaches it; a maximum over lanes runs at memory speed, selecting among the whole row does not.
    """
    lanes = max(256, 16 * k)
    depth = row.size // lanes
    tops = row[: depth * lanes].reshape(depth, lanes).max(axis=0) if depth > 1 else row
    limit: np.float32 = np.partition(tops, tops.size - k)[tops.size - k]
    return limit


def top_p(candidates: Candidates, p: float, total: float | None = None) -> Candidates:
    """The fewest candidates that hold ``p`` of the mass (``total``; default that of all given), at least one."""
    mass = np.cumsum(np.exp(candidates.logits - candidates.logits[0]))
    enough = int(np.searchsorted(mass, p * (mass[-1] if total is None else total))) + 1
    return Candidates(candidates.tokens[:enough], candidates.logits[:enough])


def min_p(candidates: Candidates, log_p: float) -> Candidates:
    """Those at least ``exp(log_p)`` times as probable as the first, which always stays."""
    enough = max(1, int(np.count_nonzero(candidates.logits >= candidates.logits[0] + log_p)))
    return Candidates(candidates.tokens[:enough], candidates.logits[:enough])


def temperature(candidates: Candidates, degrees: float) -> Candidates:
    """Divide the distances to the best logit by the temperature (the same distribution as dividing the logits)."""
    return Candidates(candidates.tokens, (candidates.logits - candidates.logits.max()) / degrees)


def _nucleus(row: Logits, p: float) -> Candidates:
    """:func:`top_p` of the whole row, without sorting all of it where a few hold the mass."""
    peak = float(row.max())
    total = float(np.exp(row.astype(np.float64) - peak).sum())
    k = min(256, row.size)
    while True:
        found = best(row, k)
        if k >= row.size or np.exp(found.logits - peak).sum() >= p * total:
            return top_p(found, p, total)
        k = min(8 * k, row.size)


def _near(row: Logits, log_p: float) -> Candidates:
    """At least what :func:`min_p` leaves of the whole row; it decides about the last digit."""
    peak = row.max()
    below = np.nextafter(peak + np.float32(min(0.0, log_p)), np.float32(-np.inf))
    return best(row, int(np.count_nonzero(row >= below)))


def _everything(row: Logits) -> Candidates:
    """All tokens, in no order but their ids': no filter follows that asks for one."""
    return Candidates(np.arange(row.size), row.astype(np.float64))


def _first_filter(sampling: Sampling) -> Callable[[Logits], Candidates]:
    """The first filter that is on; it takes the whole row, so it is the one whose cost counts."""
    if sampling.top_k > 0:
        return lambda row: best(row, sampling.top_k)
    if sampling.top_p < 1:
        return lambda row: _nucleus(row, sampling.top_p)
    if sampling.min_p > 0:
        return lambda row: _near(row, math.log(sampling.min_p))
    return _everything


def _later_filters(sampling: Sampling) -> Iterable[Callable[[Candidates], Candidates]]:
    """The filters that are on, in llama.cpp's order; repeating the first one would change nothing but the time."""
    if sampling.top_p < 1 and sampling.top_k > 0:
        yield lambda found: top_p(found, sampling.top_p)
    if sampling.min_p > 0:
        yield lambda found: min_p(found, math.log(sampling.min_p))
    yield lambda found: temperature(found, max(sampling.temperature, _COLDEST))


# --- one choice -------------------------------------------------------------------------------


class Sampler:
    """Draws the tokens of one choice. ``prompt`` counts for the penalties, as in llama.cpp.

    A temperature of 0 or less takes the most probable token, the lowest id among equals.
    """

    def __init__(self, sampling: Sampling, *, seed: int, choice: int, prompt: Sequence[int] = ()) -> None:
        self._sampling = sampling
        self._seed = seed
        self._choice = choice
        self._greedy = sampling.temperature <= 0
        self._first = _first_filter(sampling)
        self._filters = tuple(_later_filters(sampling))
        self._bias = dict(sampling.logit_bias)
        self._last_n = sampling.repeat_last_n if _penalises(sampling) else 0
        self._recent: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        self._scratch: Logits = np.empty(0, dtype=np.float32)
        for token in prompt if self._last_n < 0 else prompt[max(0, len(prompt) - self._last_n) :]:
            self.accept(token)

    def draw(self, logits: Logits, position: int, *, banned: Sequence[int] = ()) -> int:
        """The token for output position ``position`` (from 0). Never changes ``logits``, shape (n_vocab,).

        NaN counts as impossible. Raises ModelFailed when no token is possible, InvalidField when ``logit_bias`` names a
        token the model does not have, or leaves none.
        """
        row = self._adjusted(np.asarray(logits, dtype=np.float32), banned)
        likeliest = int(row.argmax())
        if not math.isfinite(row[likeliest]):
            row = self._mended(row, logits)
            likeliest = int(row.argmax())
        if self._greedy:
            return likeliest
        found = self._first(row)
        for narrow in self._filters:
            found = narrow(found)
        if found.tokens.size == 1:
            return int(found.tokens[0])
        scores = found.logits + noise(self._seed, self._choice, position, found.tokens)
        return int(found.tokens[scores.argmax()])

    def accept(self, token: int) -> None:
        """Count a token that was put out towards the penalties."""
        if self._last_n == 0:
            return
        self._counts[token] += 1
        self._recent.append(token)
        if 0 < self._last_n < len(self._recent):
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def _adjusted(self, row: Logits, banned: Sequence[int]) -> Logits:
        """The row after bias, penalties and bans; a copy if there are any, in a buffer that the next call reuses."""
        if not (self._bias or self._counts or banned):
            return row
        if self._scratch.size != row.size:
            self._scratch = np.empty(row.size, dtype=np.float32)
        np.copyto(self._scratch, row)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self._bias:
                self._add_bias(self._scratch)
            if self._counts:
                self._penalise(self._scratch)
        if banned:
            self._scratch[list(banned)] = -np.inf
        return self._scratch

    def _add_bias(self, row: Logits) -> None:
        for token, bias in self._bias.items():
            if not 0 <= token < row.size:
                raise InvalidField(
                    f"logit_bias names token {token}, but the model has {row.size} tokens.",
                    hint=f"Use token ids from 0 to {row.size - 1}.",
                    param="logit_bias",
                )
            row[token] += np.float32(bias)

    def _penalise(self, row: Logits) -> None:
        """Repeat, frequency and presence penalties of what was seen lately.

        A negative logit is multiplied by the repeat penalty where a positive one is divided, as llama.cpp does: to
        divide both would make unlikely tokens likelier.
        """
        tokens = np.fromiter((token for token in self._counts if 0 <= token < row.size), dtype=np.int64)
        counts = np.fromiter((self._counts[int(token)] for token in tokens), dtype=np.float64)
        seen, how = row[tokens].astype(np.float64), self._sampling
        seen = np.where(seen <= 0, seen * how.repeat_penalty, seen / how.repeat_penalty)
        row[tokens] = seen - (counts * how.frequency_penalty + how.presence_penalty)

    def _mended(self, row: Logits, logits: Logits) -> Logits:
        """The row without what is not finite: NaN is impossible, and infinity is certain."""
        certain = np.isposinf(row)
        mended = np.where(certain, 0.0, -np.inf) if certain.any() else np.where(np.isnan(row), -np.inf, row)
        if not np.isneginf(mended).all():
            return mended.astype(np.float32)
        if np.isfinite(logits).any():
            raise InvalidField("logit_bias leaves no token that could follow.", param="logit_bias")
        raise ModelFailed(
            "The model gave no usable number for any token (all NaN or minus infinity).",
            hint="The model file may be damaged, or the device computes wrongly; try another file, or --cpu.",
        )


def _penalises(sampling: Sampling) -> bool:
    """Whether any of the three penalties does anything."""
    return sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
