"""What a node says of itself once it has started, and to whom. Plain records."""

from __future__ import annotations

from collections.abc import Callable

from meshnode.domain import ModelCard, Record
from meshnode.engine.pipe import EngineInfo
from meshnode.models.pull import PullProgress


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
