"""Where the layers of a model went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meshnode.engine.llama.library import LOG
from meshnode.engine.pipe import Device


class Placement(NamedTuple):
    """Where the layers went: how many to GPUs, and the devices that hold any."""

    gpu_layers: int
    devices: tuple[str, ...]


def placement(n_layers: int, seen: Sequence[Device]) -> Placement:
    """Where the layers of the model loaded last went (see :mod:`meshnode.engine.library_log`)."""
    held = LOG.layers_on(n_layers)
    kinds = {device.name: device.kind for device in seen}
    on_gpu = sum(count for name, count in held.items() if kinds.get(name) != "cpu")
    return Placement(on_gpu, tuple(sorted(held)))
