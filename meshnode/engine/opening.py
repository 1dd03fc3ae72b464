"""One worker with one model, as the node's settings want it, and what befalls it as facts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from meshnode.config import EngineSettings
from meshnode.domain import ModelCard
from meshnode.engine.pipe import EngineInfo, Load
from meshnode.engine.process import Spawn
from meshnode.engine.runner import Engine, WorkerLimits, open_worker
from meshnode.errors import ModelFailed

Note = Callable[[str, Mapping[str, str | int | float]], Awaitable[None]]
"""Hears a fact: its kind and its fields."""


@asynccontextmanager
async def open_engine(
    settings: EngineSettings,
    spawn: Spawn,
    note: Note,
    card: ModelCard,
    progress: Callable[[float], None],
    *,
    context: Callable[[ModelCard], int] | None = None,
) -> AsyncIterator[Engine]:
    """A worker with ``card`` loaded, for the length of the block. Raises ModelFailed.

    ``spawn`` starts its process; ``progress`` is told the fraction of the weights in place; ``context`` says how many
    tokens of context it gets (0: the model's own), instead of the settings.
    """
    load = Load(
        path=card.path,
        n_ctx=settings.context if context is None else context(card),
        n_seq_max=settings.slots,
        n_batch=settings.batch,
        cache_bytes=settings.cache_ram << 20,
        threads=settings.threads,
        threads_batch=settings.threads_batch,
        gpu_layers=0 if settings.cpu else settings.gpu_layers,
    )
    limits = WorkerLimits(load_timeout_s=settings.load_timeout_s)
    try:
        async with open_worker(load, spawn=spawn, limits=limits, progress=progress) as engine:
            await note("model_loaded", _loaded(card, engine.info))
            try:
                yield engine
            finally:
                if engine.dead:
                    with trio.CancelScope(shield=True):
                        await note("worker_died", {"model": card.id})
    except ModelFailed as error:
        with trio.CancelScope(shield=True):
            await note("model_failed", {"model": card.id, "code": error.code})
        raise


def _loaded(card: ModelCard, info: EngineInfo) -> dict[str, str | int | float]:
    """The fact that a model was loaded; its speed in thousandths of a token per second."""
    return {
        "model": card.id,
        "load_s": info.load_s,
        "active": card.active_bytes,
        "decode_mtps": round(1000 * info.decode_tps),
        "gpu_layers": info.gpu_layers,
    }
