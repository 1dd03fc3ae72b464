"""What a node says of itself once it has started, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from meshnode.domain import ModelCard, Record
from meshnode.engine.machine import Machine
from meshnode.engine.pipe import EngineInfo
from meshnode.models.catalogue import best_for, suggestion
from meshnode.models.fetch import reachable
from meshnode.models.pull import PullProgress

HUB_PATIENCE_S: Final = 1.5
"""How long a start waits to learn whether the hub can be reached."""


class ReadyModel(Record, frozen=True, kw_only=True):
    """A model that answers, as loading it found it; ``decode_tps`` is tokens per second."""

    id: str
    parameters: int
    context_length: int
    layers: int
    gpu_layers: int
    devices: tuple[str, ...]
    decode_tps: float


class Ready(Record, frozen=True, kw_only=True):
    """A started node. ``api`` holds base URLs ending in ``/v1``; ``mesh`` and ``notes`` are sentences for its owner."""

    api: tuple[str, ...]
    models: tuple[ReadyModel, ...]
    peer_id: str
    addresses: tuple[str, ...]
    mesh: str
    notes: tuple[str, ...] = ()


class Say(Record, frozen=True, kw_only=True):
    """Whom a start talks to: ``ready`` is called once, ``progress`` while the default model is fetched."""

    ready: Callable[[Ready], None]
    progress: Callable[[PullProgress], None]


def ready_model(card: ModelCard, info: EngineInfo) -> ReadyModel:
    """A model as loading it found it."""
    return ReadyModel(
        id=card.id,
        parameters=info.n_params,
        context_length=info.n_ctx,
        layers=info.n_layers,
        gpu_layers=info.gpu_layers,
        devices=info.used_devices,
        decode_tps=info.decode_tps,
    )


async def look_at_hub(machine: Machine, hub: str, notes: list[str]) -> None:
    """Note what else could be run here, and where it can be had."""
    best = best_for(machine.free_memory(), accelerated=machine.accelerated)
    there = False
    with trio.move_on_after(HUB_PATIENCE_S):
        there = best is not None and await reachable(hub)
    notes.append(suggestion(best, hub, reachable=there))
