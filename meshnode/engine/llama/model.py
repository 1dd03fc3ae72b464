"""A model in memory with its context: what a :class:`meshnode.engine.backend.Backend` can do, by llama.cpp.

llama.cpp answers a wrong call by aborting the process, so this door checks what it hands over.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp.llama_cpp as api
import numpy as np
from numpy.typing import NDArray

from meshnode.engine.backend import Aborted, Fim, Logits, NoSpace, Row
from meshnode.engine.llama.batch import Batch
from meshnode.engine.llama.embedding import LlamaEmbedding
from meshnode.engine.llama.library import LOG, backends, devices, system_info, text_of
from meshnode.engine.llama.placement import placement
from meshnode.engine.pipe import EngineInfo
from meshnode.errors import ModelFailed

_OK, _NO_SPACE, _ABORTED = 0, 1, 2
"""What ``llama_decode`` returns; negative numbers are errors."""
_FILLED = re.compile(r"({query}|{document})")
_WATCHED_ROWS = 32
"""Batches of more rows ask the abort callback. It costs a microsecond per graph node: nothing to a prompt's chunk, but
several per cent of a single token."""


class LlamaBackend:
    """A :class:`meshnode.engine.backend.Backend` over a model and a context, which it owns. See
    :func:`meshnode.engine.llama.loading.open_llama`."""

    def __init__(self, model: Any, context: Any, embedding: LlamaEmbedding, *, slots: int, load_s: float) -> None:
        """``context`` is ``None`` for a model that only embeds."""
        self._generates = context is not None
        self._model, self._context, self._embedding = model, context or embedding.context, embedding
        context = self._context
        self._vocabulary = api.llama_model_get_vocab(model)
        self._memory = api.llama_get_memory(context)
        self._n_vocab = int(api.llama_vocab_n_tokens(self._vocabulary))
        self._row_type = ctypes.c_float * self._n_vocab
        self._n_batch = int(api.llama_n_batch(context))
        self._ids = int(api.llama_n_seq_max(context))
        self._cuttable = keeps_every_token(model)
        self._window = max(0, int(api.llama_model_n_swa(model)))
        self._slots = slots
        self._batch = Batch(self._n_batch)
        self._pieces: dict[int, bytes] = {}
        self._should_abort: Callable[[], bool] | None = None
        self._watcher = api.ggml_abort_callback(self._watch)
        self._no_watcher = api.ggml_abort_callback()
        self._info = self._describe(load_s)

    @property
    def info(self) -> EngineInfo:
        """Shape and placement; speeds are measured by whoever loads."""
        return self._info

    @property
    def ids(self) -> int:
        """Sequence ids of the context."""
        return self._ids

    @property
    def cuttable(self) -> bool:
        """Whether the model attends to every token and to nothing else."""
        return self._cuttable

    @property
    def n_batch(self) -> int:
        """Rows a batch may have."""
        return self._n_batch

    @property
    def chat_template(self) -> str | None:
        """The template in the model's file."""
        template: bytes | None = api.llama_model_chat_template(self._model, None)
        return None if template is None else text_of(template)

    @property
    def bos_text(self) -> str:
        """Text of the begin-of-sequence token."""
        return self._token_text(api.llama_vocab_bos(self._vocabulary))

    @property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token."""
        return self._token_text(api.llama_vocab_eos(self._vocabulary))

    @property
    def fim(self) -> Fim | None:
        """As the model's file says, or llama.cpp finds by their texts."""
        pre, suf, mid = (api.llama_vocab_fim_pre, api.llama_vocab_fim_suf, api.llama_vocab_fim_mid)
        found = Fim(*(int(token(self._vocabulary)) for token in (pre, suf, mid)))
        return found if min(found) >= 0 else None

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of ``text``; lone surrogates become question marks."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 2
        tokens = (api.llama_token * room)()
        count = api.llama_tokenize(self._vocabulary, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            room = -count
            tokens = (api.llama_token * room)()
            count = api.llama_tokenize(self._vocabulary, data, len(data), tokens, room, add_special, parse_special)
        return list(tokens[: max(0, count)])

    def pair(self, query: str, document: str) -> list[int]:
        """By the file's own template for it, or with the tokens that the model wants around texts.

        As llama-server does it, but for the last mark of a model that separates and does not end (BERT was trained with
        one).
        """
        vocabulary = self._vocabulary
        template: bytes | None = api.llama_model_chat_template(self._model, b"rerank")
        if template is not None:
            parts = _FILLED.split(text_of(template))
            text = "".join({"{query}": query, "{document}": document}.get(part, part) for part in parts)
            return self.tokenize(text, add_special=False, parse_special=True)
        query_, document_ = (self.tokenize(one, add_special=False, parse_special=False) for one in (query, document))
        eos, sep = int(api.llama_vocab_eos(vocabulary)), int(api.llama_vocab_sep(vocabulary))
        begin = [int(api.llama_vocab_bos(vocabulary))] if api.llama_vocab_get_add_bos(vocabulary) else []
        apart = [sep] if api.llama_vocab_get_add_sep(vocabulary) else []
        end = [eos if eos >= 0 else sep] if api.llama_vocab_get_add_eos(vocabulary) else []
        pair = [*begin, *query_, *end, *apart, *document_, *(end or apart)]
        return [token for token in pair if token >= 0]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Bytes of one token; remembered."""
        if special:
            return self._read_piece(token, special=True)
        if (known := self._pieces.get(token)) is None:
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def ends_generation(self, token: int) -> bool:
        """Whether the model's vocabulary says so."""
        return bool(api.llama_vocab_is_eog(self._vocabulary, token))

    def is_control(self, token: int) -> bool:
        """Whether the model's vocabulary says so."""
        return bool(api.llama_vocab_is_control(self._vocabulary, token)) or self.ends_generation(token)

    def decode(self, rows: Sequence[Row]) -> None:
        """Compute a batch. Raises NoSpace, Aborted, ModelFailed, or ValueError for what llama.cpp would die of."""
        self._check(rows)
        watched = self._should_abort is not None and len(rows) > _WATCHED_ROWS
        if watched:
            api.llama_set_abort_callback(self._context, self._watcher, None)
        try:
            result = api.llama_decode(self._context, self._batch.fill(rows))
        finally:
            if watched:
                api.llama_set_abort_callback(self._context, self._no_watcher, None)
        if result == _OK:
            return
        if result == _NO_SPACE:
            raise NoSpace
        if result == _ABORTED:
            raise Aborted
        raise ModelFailed(f"llama.cpp failed to compute a batch ({result}): {LOG.reason or 'it does not say why'}.")

    def logits(self, row: int) -> Logits:
        """A view of the library's own memory, valid until the next ``decode``. Raises LookupError for a row without."""
        pointer = api.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise LookupError(f"row {row} of the last batch asked for no output")
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        return np.frombuffer(memoryview(self._row_type.from_address(address or 0)), dtype=np.float32)

    def remove(self, seq: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions; False if the model's memory cannot be cut there.

        A window of the past is cut without complaint even where what a token at ``start`` would look back at is gone.
        """
        if not self._generates:
            return True
        first = api.llama_memory_seq_pos_min(self._memory, seq) if self._window and start > 0 else 0
        if first > max(0, start - self._window):
            return False
        return bool(api.llama_memory_seq_rm(self._memory, seq, start, end))

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Share cells; no data is copied in a unified cache."""
        api.llama_memory_seq_cp(self._memory, source, target, start, end)

    def embedding(self) -> LlamaEmbedding:
        """What embeds with this model."""
        return self._embedding

    def save(self, seq: int) -> NDArray[np.uint8] | None:
        """What llama.cpp writes of a sequence: its cells, its running state."""
        size = int(api.llama_state_seq_get_size_ext(self._context, seq, 0))
        state = np.empty(size, dtype=np.uint8)
        written = api.llama_state_seq_get_data_ext(self._context, _bytes_of(state), size, seq, 0)
        return state if 0 < written == size else None

    def restore(self, seq: int, state: NDArray[np.uint8]) -> bool:
        """Write what :meth:`save` gave into free cells."""
        read = api.llama_state_seq_set_data_ext(self._context, _bytes_of(state), state.nbytes, seq, 0)
        if read == state.nbytes:
            return True
        self.remove(seq)
        return False

    def set_threads(self, decode: int, prefill: int) -> None:
        """From the next batch on."""
        api.llama_set_n_threads(self._context, decode, prefill)

    def set_abort(self, should_abort: Callable[[], bool] | None) -> None:
        """Ask this before each node of the graph, in batches long enough to matter. CPU only, as in llama.cpp."""
        self._should_abort = should_abort
        self._embedding.set_abort(should_abort)

    def close(self) -> None:
        """Free context and model. Idempotent."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        self._embedding.close()
        if context is not None and self._generates:
            api.llama_free(context)
        if model is not None:
            api.llama_model_free(model)

    def _watch(self, _: object) -> bool:
        return self._should_abort is not None and self._should_abort()

    def _check(self, rows: Sequence[Row]) -> None:
        """llama.cpp aborts, or reads past an array, on what this refuses."""
        if not self._generates:
            raise ValueError("the model generates nothing")
        if not 0 < len(rows) <= self._n_batch:
            raise ValueError(f"a batch of {len(rows)} rows; 1 to {self._n_batch} are possible")
        if sum(row.logits for row in rows) > self._slots:
            raise ValueError(f"a batch may ask for the output of {self._slots} rows")
        if not all(0 <= row.token < self._n_vocab and 0 <= row.seq < self._ids for row in rows):
            raise ValueError("a batch names a token or a sequence that does not exist")

    def _token_text(self, token: int) -> str:
        return "" if token < 0 else text_of(self._read_piece(token, special=True))

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = api.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def _describe(self, load_s: float) -> EngineInfo:
        n_layers = int(api.llama_model_n_layer(self._model))
        seen = devices()
        placed = placement(n_layers, seen)
        template = self.chat_template
        return EngineInfo(
            n_ctx=api.llama_n_ctx(self._context) if self._generates else self._embedding.shape.longest,
            n_ctx_train=api.llama_model_n_ctx_train(self._model),
            n_seq_max=self._slots,
            n_vocab=self._n_vocab,
            n_layers=n_layers,
            gpu_layers=placed.gpu_layers,
            devices=seen,
            used_devices=placed.devices,
            backends=backends(),
            system_info=system_info(),
            threads=api.llama_n_threads(self._context),
            threads_batch=api.llama_n_threads_batch(self._context),
            n_params=api.llama_model_n_params(self._model),
            size_bytes=api.llama_model_size(self._model),
            has_template=template is not None,
            template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else "",
            kinds=self._kinds(),
            embedding_length=0 if self._embedding.ranks else self._embedding.shape.width,
            load_s=load_s,
            memory=LOG.memory,
        )

    def _kinds(self) -> tuple[str, ...]:
        if self._embedding.ranks:
            return ("rerank",)
        return ("generate", "embed") if self._generates else ("embed",)


def _bytes_of(array: NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def keeps_every_token(model: Any) -> bool:
    """Whether a model's memory has one cell for each token and layer: no running state, no window."""
    states = api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model)
    return not (states or api.llama_model_n_swa(model) > 0)
