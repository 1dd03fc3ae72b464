"""The only door to llama.cpp: its low-level API, through llama-cpp-python's ctypes bindings.

llama.cpp answers a wrong call by aborting the process, so this door checks what it hands over. It prints to the
terminal unless its log is taken from it, which is done for the whole process: what it says goes to :data:`LOG`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import llama_cpp.llama_cpp as api
import numpy as np
from llama_cpp._ggml import libggml
from numpy.typing import NDArray

from meshnode.engine.backend import Aborted, Logits, NoSpace, Row
from meshnode.engine.library_log import LibraryLog
from meshnode.engine.pipe import Device, EngineInfo, Load
from meshnode.engine.threads import default_threads
from meshnode.errors import ModelFailed

LOG = LibraryLog()
"""What the library said; one per process, as the library's own log is."""
_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel", 4: "meta"}
"""``enum ggml_backend_dev_type``."""
_OK, _NO_SPACE, _ABORTED = 0, 1, 2
"""What ``llama_decode`` returns; negative numbers are errors."""
_WATCHED_ROWS = 32
"""Batches of more rows ask the abort callback. It costs a microsecond per graph node: nothing to a prompt's chunk, but
several per cent of a single token."""
_SHARES = (0.75, 0.5, 0.25)
"""Shares of the layers to try on the GPU, where all that fit were asked for and its memory is too small for all."""

Progress = Callable[[float], bool]
"""Called with the fraction loaded; false stops the load."""


class Placement(NamedTuple):
    """Where the layers went: how many to GPUs, and the devices that hold any."""

    gpu_layers: int
    devices: tuple[str, ...]


@api.llama_log_callback  # type: ignore[untyped-decorator]
def _take_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = LOG.add(level, text.decode("utf-8", "replace"))
    if line is not None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  the parent keeps a worker's last words


# --- the library ------------------------------------------------------------------------------


def open_library() -> None:
    """Take the library's log and initialise its backends. May be called again."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # an abort would else start a debugger on this process
    api.llama_log_set(_take_log, ctypes.c_void_p(0))
    api.llama_backend_init()


def _ggml(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml that llama-cpp-python does not bind."""
    function = getattr(libggml, name)
    function.restype, function.argtypes = result, list(arguments)
    return cast(Callable[..., Any], function)


def backends() -> tuple[str, ...]:
    """Names of the compute backends in the installed library, as ``CPU``, ``CUDA``, ``Vulkan``."""
    count = _ggml("ggml_backend_reg_count", ctypes.c_size_t)()
    get = _ggml("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    name = _ggml("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    return tuple(_text(name(get(index))) for index in range(count))


def devices() -> tuple[Device, ...]:
    """The compute devices the library sees, CPUs among them."""
    get = _ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_device(get(index)) for index in range(_ggml("ggml_backend_dev_count", ctypes.c_size_t)()))


def _device(handle: int) -> Device:
    size = ctypes.POINTER(ctypes.c_size_t)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _ggml("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)(handle, free, total)
    return Device(
        name=_text(_ggml("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)(handle)),
        description=_text(_ggml("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)(handle)),
        kind=_KINDS.get(_ggml("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(handle), "other"),
        memory_total=total.value,
        memory_free=free.value,
    )


def system_info() -> str:
    """The CPU features the library was built for and found."""
    return _text(api.llama_print_system_info()).strip()


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


# --- loading ----------------------------------------------------------------------------------


def open_llama(load: Load, *, progress: Progress = lambda _: True) -> LlamaBackend:
    """Load a model and make a context for it. Raises ModelFailed with the library's own reason."""
    open_library()
    began = time.monotonic()
    model = _load_model(load, progress)
    try:
        _check_kind(model)
        context = _make_context(load, model)
    except ModelFailed:
        api.llama_model_free(model)
        raise
    return LlamaBackend(model, context, time.monotonic() - began)


def _load_model(load: Load, progress: Progress) -> Any:
    """The model, with as many layers on the GPU as fit if all were asked for; never silently none."""
    model = _try_load(load, progress, load.gpu_layers)
    layers = LOG.layers_on(sys.maxsize).total()
    may_shrink = load.gpu_layers < 0 and any(device.kind in ("gpu", "igpu") for device in devices())
    for share in _SHARES if may_shrink else ():
        if not model and LOG.out_of_memory and layers:
            model = _try_load(load, progress, int(layers * share))
    if not model:
        raise ModelFailed(f"llama.cpp cannot load the model: {LOG.reason or 'it does not say why'}.")
    return model


def _try_load(load: Load, progress: Progress, gpu_layers: int) -> Any:
    LOG.forget()
    callback = api.llama_progress_callback(lambda fraction, _: progress(fraction))
    params = api.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.progress_callback = callback
    if not load.mmap:
        params.load_mode = api.LLAMA_LOAD_MODE_NONE
    return api.llama_model_load_from_file(os.fsencode(load.path), params)


def _check_kind(model: Any) -> None:
    """Raises ModelFailed for a model that does not continue text."""
    if api.llama_model_has_encoder(model) or not api.llama_model_has_decoder(model):
        raise ModelFailed("the model does not generate text from text alone (it has an encoder, or no decoder).")
    if api.llama_model_is_diffusion(model):
        raise ModelFailed("the model is a diffusion model, which does not generate text token by token.")
    vocabulary = api.llama_model_get_vocab(model)
    if api.llama_vocab_n_tokens(vocabulary) < 1 or api.llama_vocab_type(vocabulary) == api.LLAMA_VOCAB_TYPE_NONE:
        raise ModelFailed("the model file has no vocabulary.")


def _make_context(load: Load, model: Any) -> Any:
    trained = api.llama_model_n_ctx_train(model)
    threads = load.threads or default_threads()
    params = api.llama_context_default_params()
    params.n_ctx = load.n_ctx or min(trained or load.max_ctx, load.max_ctx)
    params.n_seq_max = min(load.n_seq_max, api.llama_max_parallel_sequences())
    params.n_batch = max(load.n_batch, load.n_seq_max + 32)
    params.n_ubatch = min(load.n_ubatch, params.n_batch)
    params.n_outputs_max = params.n_seq_max  # one token is drawn per sequence and step; the default reserves 2048 rows
    params.n_outputs_max_per_seq = 1
    params.n_threads = threads
    params.n_threads_batch = load.threads_batch or threads
    params.kv_unified = True
    params.no_perf = True
    context = api.llama_init_from_model(model, params)
    if not context:
        reason = LOG.reason or "it does not say why"
        hint = "A smaller context or fewer slots need less memory."
        raise ModelFailed(f"llama.cpp cannot make a context of {params.n_ctx} tokens: {reason}.", hint=hint)
    if not api.llama_get_memory(context):
        api.llama_free(context)
        raise ModelFailed("the model does not generate text (it keeps no memory of what it read; embeddings, perhaps).")
    return context


def placement(n_layers: int, seen: Sequence[Device]) -> Placement:
    """Where the layers of the model loaded last went (see :mod:`meshnode.engine.library_log`)."""
    held = LOG.layers_on(n_layers)
    kinds = {device.name: device.kind for device in seen}
    on_gpu = sum(count for name, count in held.items() if kinds.get(name) != "cpu")
    return Placement(on_gpu, tuple(sorted(held)))


# --- a model in memory ------------------------------------------------------------------------


class LlamaBackend:
    """A :class:`meshnode.engine.backend.Backend` over a model and a context, which it owns. See :func:`open_llama`."""

    def __init__(self, model: Any, context: Any, load_s: float) -> None:
        self._model, self._context = model, context
        self._vocabulary = api.llama_model_get_vocab(model)
        self._memory = api.llama_get_memory(context)
        self._n_vocab = int(api.llama_vocab_n_tokens(self._vocabulary))
        self._row_type = ctypes.c_float * self._n_vocab
        self._n_batch = int(api.llama_n_batch(context))
        self._n_seq_max = int(api.llama_n_seq_max(context))
        self._batch = _Batch(self._n_batch)
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
    def n_batch(self) -> int:
        """Rows a batch may have."""
        return self._n_batch

    @property
    def chat_template(self) -> str | None:
        """The template in the model's file."""
        template: bytes | None = api.llama_model_chat_template(self._model, None)
        return None if template is None else _text(template)

    @property
    def bos_text(self) -> str:
        """Text of the begin-of-sequence token."""
        return self._token_text(api.llama_vocab_bos(self._vocabulary))

    @property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token."""
        return self._token_text(api.llama_vocab_eos(self._vocabulary))

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
        """Forget positions; False if the model's memory cannot be cut there."""
        return bool(api.llama_memory_seq_rm(self._memory, seq, start, end))

    def copy(self, source: int, target: int) -> None:
        """Share all cells of ``source``; no data is copied in a unified cache."""
        self.remove(target)
        api.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def set_abort(self, should_abort: Callable[[], bool] | None) -> None:
        """Ask this before each node of the graph, in batches long enough to matter. CPU only, as in llama.cpp."""
        self._should_abort = should_abort

    def close(self) -> None:
        """Free context and model. Idempotent."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context is not None:
            api.llama_free(context)
        if model is not None:
            api.llama_model_free(model)

    def _watch(self, _: object) -> bool:
        return self._should_abort is not None and self._should_abort()

    def _check(self, rows: Sequence[Row]) -> None:
        """llama.cpp aborts, or reads past an array, on what this refuses."""
        if not 0 < len(rows) <= self._n_batch:
            raise ValueError(f"a batch of {len(rows)} rows; 1 to {self._n_batch} are possible")
        if sum(row.logits for row in rows) > self._n_seq_max:
            raise ValueError(f"a batch may ask for the output of {self._n_seq_max} rows")
        if not all(0 <= row.token < self._n_vocab and 0 <= row.seq < self._n_seq_max for row in rows):
            raise ValueError("a batch names a token or a sequence that does not exist")

    def _token_text(self, token: int) -> str:
        return "" if token < 0 else _text(self._read_piece(token, special=True))

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
            n_ctx=api.llama_n_ctx(self._context),
            n_ctx_train=api.llama_model_n_ctx_train(self._model),
            n_seq_max=self._n_seq_max,
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
            load_s=load_s,
        )


class _Batch:
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
