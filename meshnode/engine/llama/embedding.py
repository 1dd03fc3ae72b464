"""Embeddings by llama.cpp: a context of its own over a model's weights, beside the one that generates.

Two kinds of models embed. Where each token attends only to those before it and a memory keeps what was read
(generative models, and embedding models made of them), an input is computed in parts, and the vectors of its tokens are
pooled here. Elsewhere (encoders such as BERT) every token attends to all others: an input is computed whole, in one
``ubatch`` that is long enough, and pooled by llama.cpp.

Pooling is what the file says; where it says none, the mean, which is what ``llama-server --embeddings --pooling mean``
gives (without that option it refuses such a model).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import llama_cpp.llama_cpp as api
import numpy as np
from numpy.typing import NDArray

from meshnode.engine.backend import Aborted, Row
from meshnode.engine.llama.batch import Batch
from meshnode.engine.llama.library import LOG, text_of
from meshnode.engine.pipe import Load
from meshnode.engine.threads import default_threads
from meshnode.engine.vectors import EmbeddingShape, Piece, Vector
from meshnode.errors import ModelFailed

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
"""``enum llama_pooling_type``: those that give vectors, and that of a model that says how well two texts fit."""
SEQUENCES: Final = 64
"""Inputs of one batch; of models with a state of fixed size for each, fewer."""
_SEQUENCES_OF_STATES: Final = 8
_LONGEST_WHOLE: Final = 8192
"""Tokens of an input that is computed whole: the memory for it grows with their square."""
_ABORTED: Final = 2
_KEY: Final = 128
_PROBED: Final = 32


class Pooling(NamedTuple):
    """How a model's file wants its tokens pooled; ``declared`` if it says so, which is what makes it for embeddings."""

    type: int
    declared: bool


def pooling_of(model: Any) -> Pooling:
    """As the model's metadata say; the mean where they say nothing. Raises ModelFailed for one that is not known."""
    declared = _meta(model, f"{_meta(model, 'general.architecture')}.pooling_type")
    number = int(declared) if declared.isdigit() else 0
    if number == 0:
        return Pooling(MEAN, declared=False)
    if number not in (MEAN, CLS, LAST, RANK):
        raise ModelFailed(f"the model pools its tokens in way {number}, which is not known here.")
    return Pooling(number, declared=True)


def attends_both_ways(model: Any) -> bool:
    """Whether a token attends to those after it, by the metadata."""
    return _meta(model, f"{_meta(model, 'general.architecture')}.attention.causal") == "false"


def remembers(model: Any) -> bool:
    """Whether a context of the model keeps what it read; asked of a small one, since no function tells."""
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = _PROBED
    params.n_threads = params.n_threads_batch = 1
    context = api.llama_init_from_model(model, params)
    if not context:
        raise ModelFailed(f"llama.cpp cannot make a context of the model: {LOG.reason or 'it does not say why'}.")
    try:
        return bool(api.llama_get_memory(context))
    finally:
        api.llama_free(context)


def _meta(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(_KEY)
    count = api.llama_model_meta_val_str(model, key.encode(), buffer, _KEY)
    return text_of(buffer.value) if 0 <= count < _KEY else ""


class LlamaEmbedding:
    """A :class:`meshnode.engine.vectors.EmbeddingBackend` over a model, which it does not own.

    ``longest`` bounds an input. ``whole`` is whether inputs are computed whole, ``kept`` whether the model's only
    context is this one, so that it is not given back while the model is loaded.
    """

    def __init__(
        self,
        model: Any,
        load: Load,
        pooling: Pooling,
        *,
        longest: int,
        whole: bool,
        kept: bool = False,
    ) -> None:
        self._model, self._load, self._kept = model, load, kept
        self._pooling = pooling.type
        self._n_vocab = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(model)))
        trained = int(api.llama_model_n_ctx_train(model)) or longest
        longest = min(longest, trained, _LONGEST_WHOLE) if whole else min(longest, trained)
        states = api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model)
        self._shape = EmbeddingShape(
            width=int(api.llama_model_n_cls_out(model) if self.ranks else api.llama_model_n_embd_out(model)),
            longest=longest,
            rows=max(longest, load.n_ubatch) if whole else load.n_ubatch,
            sequences=_SEQUENCES_OF_STATES if states else SEQUENCES,
            whole=whole,
        )
        self._batch = Batch(self._shape.rows)
        self._context: Any = None
        self._cells = 0
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._should_abort: Callable[[], bool] | None = None
        self._watcher = api.ggml_abort_callback(self._watch)

    @property
    def ranks(self) -> bool:
        """Whether a vector is what the model says of a pair of texts."""
        return self._pooling == RANK

    @property
    def shape(self) -> EmbeddingShape:
        """Its bounds."""
        return self._shape

    @property
    def idle_memory(self) -> bool:
        """Whether its context is there, and not the model's only one."""
        return self._context is not None and not self._kept

    @property
    def context(self) -> Any:
        """Its context, made if there is none. Raises ModelFailed."""
        if self._context is None:
            self._make(self._shape.rows if self._shape.whole else 2 * self._shape.rows)
        return self._context

    def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
        """Compute one batch. Raises Aborted, ModelFailed, or ValueError for what llama.cpp would die of."""
        self._shape.check(pieces, self._n_vocab)
        self._grow(pieces)
        context = self.context
        rows = [
            Row(piece.seq, token, place, True)
            for piece in pieces
            for place, token in enumerate(piece.tokens, piece.start)
        ]
        result = api.llama_decode(context, self._batch.fill(rows))
        if result:
            for piece in pieces:
                self.forget(piece.seq)
            if result == _ABORTED:
                raise Aborted
            raise ModelFailed(f"llama.cpp failed to embed ({result}): {LOG.reason or 'it does not say why'}.")
        vectors = [self._pooled(piece) for piece in pieces] if self._shape.whole else self._collect(pieces)
        for piece in pieces:
            if piece.last:
                self.forget(piece.seq)
        return vectors

    def forget(self, seq: int) -> None:
        """An input that was begun will not be finished."""
        self._sums.pop(seq, None)
        memory = api.llama_get_memory(self._context) if self._context is not None else None
        if memory:
            api.llama_memory_seq_rm(memory, seq, -1, -1)

    def set_abort(self, should_abort: Callable[[], bool] | None) -> None:
        """Ask this before each node of the graph. CPU only, as in llama.cpp."""
        self._should_abort = should_abort

    def release(self) -> None:
        """Free the context, if it is not the model's only one."""
        if not self._kept:
            self.close()

    def close(self) -> None:
        """Free the context. Idempotent."""
        context, self._context = self._context, None
        self._sums.clear()
        self._cells = 0
        if context is not None:
            api.llama_free(context)

    def _watch(self, _: object) -> bool:
        return self._should_abort is not None and self._should_abort()

    # --- pooling ------------------------------------------------------------------------------

    def _pooled(self, piece: Piece) -> Vector:
        """llama.cpp's own, of a whole input."""
        pointer = api.llama_get_embeddings_seq(self._context, piece.seq)
        if not pointer:
            raise ModelFailed("llama.cpp gave no vector for an input.")
        return np.ctypeslib.as_array(pointer, (self._shape.width,)).astype(np.float32)

    def _collect(self, pieces: Sequence[Piece]) -> list[Vector]:
        """Pool the tokens of each piece with those before them."""
        count = sum(len(piece.tokens) for piece in pieces)
        pointer = api.llama_get_embeddings(self._context)
        if not pointer:
            raise ModelFailed("llama.cpp gave no vectors.")
        tokens = np.ctypeslib.as_array(pointer, (count, self._shape.width))
        vectors, row = [], 0
        for piece in pieces:
            vector = self._add(piece, tokens[row : row + len(piece.tokens)])
            row += len(piece.tokens)
            if piece.last:
                vectors.append(vector.astype(np.float32))
        return vectors

    def _add(self, piece: Piece, tokens: NDArray[np.float32]) -> NDArray[np.float64]:
        """The vector that the pieces of an input up to this one have, in double precision."""
        if self._pooling == LAST:
            last: NDArray[np.float64] = tokens[-1].astype(np.float64)
            return last
        if self._pooling == CLS:
            return self._sums.setdefault(piece.seq, tokens[0].astype(np.float64))
        total = self._sums.get(piece.seq, np.zeros(self._shape.width)) + tokens.sum(axis=0, dtype=np.float64)
        self._sums[piece.seq] = total
        mean: NDArray[np.float64] = total / piece.end
        return mean

    # --- its context --------------------------------------------------------------------------

    def _grow(self, pieces: Sequence[Piece]) -> None:
        """Cells enough for an input that is longer than a batch, and a batch beside its end; when nothing is begun."""
        needed = self._shape.rows + max(piece.total for piece in pieces)
        if not self._shape.whole and self._cells < needed and not any(piece.start for piece in pieces):
            self.close()
            self._make(1 << (needed - 1).bit_length())

    def _make(self, cells: int) -> None:
        load, shape = self._load, self._shape
        params = api.llama_context_default_params()
        params.n_ctx = cells
        params.n_seq_max = min(shape.sequences, api.llama_max_parallel_sequences())
        params.n_batch = params.n_ubatch = shape.rows
        params.n_threads = params.n_threads_batch = load.threads_batch or load.threads or default_threads()
        params.embeddings = True
        params.pooling_type = self._pooling if shape.whole else api.LLAMA_POOLING_TYPE_NONE
        params.kv_unified = True
        params.no_perf = True
        context = api.llama_init_from_model(self._model, params)
        if not context:
            reason = LOG.reason or "it does not say why"
            raise ModelFailed(f"llama.cpp cannot make a context of {cells} tokens to embed with: {reason}.")
        api.llama_set_abort_callback(context, self._watcher, None)
        self._context, self._cells = context, cells
