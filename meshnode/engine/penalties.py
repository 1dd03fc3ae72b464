"""Logit bias and the penalties on what was seen lately: repeat, frequency, presence. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.errors import InvalidField


class Bias:
    """``logit_bias``; of a token named twice the last bias counts. Raises InvalidField for a bias that is NaN."""

    def __init__(self, biases: Sequence[tuple[int, float]]) -> None:
        last = dict(biases)
        for token, bias in last.items():
            if math.isnan(bias):
                raise InvalidField(f"logit_bias of token {token} is not a number.", param="logit_bias")
        self._biases = last

    def __bool__(self) -> bool:
        return bool(self._biases)

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.int64], Logits]:
        with np.errstate(over="ignore"):
            values = np.array(list(self._biases.values()), dtype=np.float64).astype(np.float32)
        return np.array(list(self._biases), dtype=np.int64), values

    def add(self, row: Logits) -> None:
        """Add it to the logits in ``row``, in place. Raises InvalidField for a token the model does not have."""
        if min(self._biases) < 0 or max(self._biases) >= row.size:
            token = next(token for token in self._biases if not 0 <= token < row.size)
            raise InvalidField(
                f"logit_bias names token {token}, but the model has {row.size} tokens.",
                hint=f"Use token ids from 0 to {row.size - 1}.",
                param="logit_bias",
            )
        tokens, values = self._arrays
        row[tokens] += values


class Penalties:
    """Which tokens came among the last ``repeat_last_n`` (below 0: all), and how often. ``prompt`` counts."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._last_n = sampling.repeat_last_n if _penalises(sampling) else 0
        self._recent: deque[int] = deque()
        self._places: dict[int, int] = {}
        """Of each token that ever came: where it stands in the two arrays."""
        self._tokens = np.empty(256, dtype=np.int64)
        self._counts = np.zeros(256, dtype=np.int64)
        for token in prompt if self._last_n < 0 else prompt[max(0, len(prompt) - self._last_n) :]:
            self.accept(token)

    def __bool__(self) -> bool:
        return bool(self._places)

    def accept(self, token: int) -> None:
        """Count a token that was put out."""
        if self._last_n == 0:
            return
        place = self._places.setdefault(token, len(self._places))
        if place == self._tokens.size:
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._tokens[place] = token
        self._counts[place] += 1
        if self._last_n > 0:
            self._recent.append(token)
            if len(self._recent) > self._last_n:
                self._counts[self._places[self._recent.popleft()]] -= 1

    def penalise(self, row: Logits) -> None:
        """Take them from the logits in ``row``, in place.

        A negative logit is multiplied by the repeat penalty where a positive one is divided, as llama.cpp does: to
        divide both would make unlikely tokens likelier.
        """
        size, how = len(self._places), self._sampling
        tokens, counts = self._tokens[:size], self._counts[:size]
        here = (counts > 0) & (tokens >= 0) & (tokens < row.size)
        tokens, counts = tokens[here], counts[here]
        seen = row[tokens].astype(np.float64)
        seen = np.where(seen <= 0, seen * how.repeat_penalty, seen / how.repeat_penalty)
        row[tokens] = seen - (counts * how.frequency_penalty + how.presence_penalty)


def _penalises(sampling: Sampling) -> bool:
    """Whether any of the three penalties does anything."""
    return sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
