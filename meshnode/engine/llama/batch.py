"""The arrays of one ``llama_batch``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp.llama_cpp as api
import numpy as np
from numpy.typing import NDArray

from meshnode.engine.backend import Row


class Batch:
    """One ``llama_batch``, used again and again; its arrays are numpy's, each row is of exactly one sequence."""

    def __init__(self, n_batch: int) -> None:
        self._token: NDArray[np.int32] = np.zeros(n_batch, dtype=np.int32)
        self._pos: NDArray[np.int32] = np.zeros(n_batch, dtype=np.int32)
        self._seq: NDArray[np.int32] = np.zeros(n_batch, dtype=np.int32)
        self._logits: NDArray[np.int8] = np.zeros(n_batch, dtype=np.int8)
        self._count: NDArray[np.int32] = np.ones(n_batch, dtype=np.int32)
        first = self._seq.ctypes.data
        self._seqs: NDArray[np.uintp] = first + np.arange(n_batch, dtype=np.uintp) * np.uintp(self._seq.itemsize)
        self._struct = api.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(ctypes.POINTER(api.llama_token)),
            embd=None,
            pos=self._pos.ctypes.data_as(ctypes.POINTER(api.llama_pos)),
            n_seq_id=self._count.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._seqs.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(api.llama_seq_id))),
            logits=self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, rows: Sequence[Row]) -> api.llama_batch:
        """The batch with these rows in it; valid until filled again."""
        count = len(rows)
        seqs, tokens, positions, wanted = zip(*rows, strict=True)
        self._seq[:count] = seqs
        self._token[:count] = tokens
        self._pos[:count] = positions
        self._logits[:count] = wanted
        self._struct.n_tokens = count
        return self._struct
