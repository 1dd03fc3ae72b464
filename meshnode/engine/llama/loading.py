"""From a file to a model and a context in memory; never silently on the CPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import llama_cpp.llama_cpp as api

from meshnode.engine.llama.embedding import RANK, LlamaEmbedding, attends_both_ways, pooling_of, remembers
from meshnode.engine.llama.library import LOG, devices, open_library
from meshnode.engine.llama.model import LlamaBackend, keeps_every_token
from meshnode.engine.pipe import Load
from meshnode.engine.threads import default_threads
from meshnode.errors import ModelFailed

_SHARES = (0.75, 0.5, 0.25)
"""Shares of the layers to try on the GPU, where all that fit were asked for and its memory is too small for all."""
_SPARE_IDS = 32
"""Sequence ids for idle prefixes, where an id costs no state: only a row of output (4 bytes for each of the vocabulary)
that llama.cpp reserves."""

Progress = Callable[[float], bool]
"""Called with the fraction loaded; false stops the load."""


def open_llama(load: Load, *, progress: Progress = lambda _: True) -> LlamaBackend:
    """Load a model and make a context for it. Raises ModelFailed with the library's own reason."""
    open_library()
    began = time.monotonic()
    model = _load_model(load, progress)
    try:
        _check_kind(model)
        return _made(load, model, began)
    except ModelFailed:
        api.llama_model_free(model)
        raise


def _made(load: Load, model: Any, began: float) -> LlamaBackend:
    """The model with what it takes to generate and to embed, or only to embed where it was made for that alone."""
    slots = min(load.n_seq_max, api.llama_max_parallel_sequences())
    pooling, whole = pooling_of(model), attends_both_ways(model)
    context = None if pooling.declared or whole else _make_context(load, model, slots)
    longest = api.llama_n_ctx(context) if context is not None else load.n_ctx or load.max_ctx
    whole = whole or pooling.type == RANK or (context is None and not remembers(model))
    embedding = LlamaEmbedding(model, load, pooling, longest=longest, whole=whole, kept=context is None)
    return LlamaBackend(model, context, embedding, slots=slots, load_s=time.monotonic() - began)


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


def _make_context(load: Load, model: Any, slots: int) -> Any:
    """What generates; ``None`` where the model keeps no memory of what it read, so that it can only embed."""
    trained = api.llama_model_n_ctx_train(model)
    threads = load.threads or default_threads()
    params = api.llama_context_default_params()
    params.n_ctx = load.n_ctx or min(trained or load.max_ctx, load.max_ctx)
    params.n_seq_max = (
        min(slots + _SPARE_IDS, api.llama_max_parallel_sequences()) if keeps_every_token(model) else slots
    )
    params.n_batch = max(load.n_batch, slots + 32)
    params.n_ubatch = min(load.n_ubatch, params.n_batch)
    params.n_outputs_max = params.n_seq_max  # one token is drawn per sequence and step; the default reserves 2048 rows
    params.n_outputs_max_per_seq = 1
    params.n_threads = threads
    params.n_threads_batch = load.threads_batch or threads
    params.kv_unified = True
    params.swa_full = False  # a window's cells are for the window: the default keeps as many as for the whole context
    params.no_perf = True
    context = api.llama_init_from_model(model, params)
    if not context:
        reason = LOG.reason or "it does not say why"
        hint = "A smaller context or fewer slots need less memory."
        raise ModelFailed(f"llama.cpp cannot make a context of {params.n_ctx} tokens: {reason}.", hint=hint)
    if not api.llama_get_memory(context):
        api.llama_free(context)
        return None
    return context
