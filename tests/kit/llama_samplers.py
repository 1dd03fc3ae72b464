"""llama.cpp's own samplers, applied to a row of logits: what the engine's are measured against."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import llama_cpp.llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.llama.library import open_library

_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Left(NamedTuple):
    """What a sampler left of a row: tokens in its order, their logits, and which it drew (-1: it draws none)."""

    tokens: NDArray[np.int64]
    logits: NDArray[np.float64]
    drawn: int

    @property
    def probabilities(self) -> dict[int, float]:
        """Of each token, the softmax of what is left."""
        return softmax(self.tokens, self.logits)


def softmax(tokens: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[int, float]:
    """Probability of each token."""
    mass = np.exp(logits - logits.max())
    return dict(zip(tokens.tolist(), (mass / mass.sum()).tolist(), strict=True))


@contextmanager
def freed(*samplers: Any) -> Iterator[tuple[Any, ...]]:
    """Samplers, freed in the end."""
    open_library()  # it prints what it thinks of a sampler
    try:
        yield samplers
    finally:
        for sampler in samplers:
            llama.llama_sampler_free(sampler)


def apply(row: Logits, *samplers: Any) -> Left:
    """One sampler after the other; tokens they made impossible are not among what is left."""
    data = np.zeros(row.size, dtype=_DATA)
    data["id"], data["logit"] = np.arange(row.size), row
    pointer = data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
    array = llama.llama_token_data_array(data=pointer, size=row.size, selected=-1, sorted=False)
    for sampler in samplers:
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
    address = ctypes.cast(array.data, ctypes.c_void_p).value or 0
    first = (address - data.ctypes.data) // _DATA.itemsize
    left = data[first : first + array.size]
    drawn = int(left["id"][array.selected]) if array.selected >= 0 else -1
    left = left[left["logit"] > -np.inf]
    return Left(left["id"].astype(np.int64), left["logit"].astype(np.float64), drawn)


def filters(how: Sampling, *, seed: int = 1) -> list[Any]:
    """The filters in llama.cpp's default order, temperature last; XTC acts or not as its own random numbers say."""
    made = [
        llama.llama_sampler_init_top_n_sigma(how.top_n_sigma),
        llama.llama_sampler_init_top_k(how.top_k),
        llama.llama_sampler_init_typical(how.typical_p, 0),
        llama.llama_sampler_init_top_p(how.top_p, 0),
        llama.llama_sampler_init_min_p(how.min_p, 0),
        llama.llama_sampler_init_xtc(how.xtc_probability, how.xtc_threshold, 0, seed),
    ]
    return [*made, llama.llama_sampler_init_temp(how.temperature)]


def filtered(row: Logits, how: Sampling) -> Left:
    """What the filters leave.

    What top-n-sigma rules out is taken from the row before the others see it: llama.cpp leaves it there at minus
    infinity, where it makes typical's entropy NaN (zero times the logarithm of zero).
    """
    with freed(*filters(how)) as (sigma, *others):
        first = apply(row, sigma)
        left = apply(first.logits.astype(np.float32), *others)
    return left._replace(tokens=first.tokens[left.tokens])


def accepting(samplers: Sequence[Any], tokens: Sequence[int]) -> None:
    """Let samplers that remember see tokens."""
    for sampler in samplers:
        for token in tokens:
            llama.llama_sampler_accept(sampler, token)
