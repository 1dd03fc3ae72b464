"""Layers are counted where they went."""

from __future__ import annotations

from meshnode.engine.library_log import DEBUG
from meshnode.engine.llama.library import LOG
from meshnode.engine.llama.placement import Placement, placement
from meshnode.engine.pipe import Device


def test_layers_are_counted_where_they_really_went() -> None:
    LOG.forget()
    for layer, device in enumerate(["CPU", "CUDA0", "CUDA0", "CUDA1", "CUDA1"]):
        LOG.add(DEBUG, f"load_tensors: layer {layer:3d} assigned to device {device}, is_swa = 0\n")
    kinds = {"CPU": "cpu", "CUDA0": "gpu", "CUDA1": "gpu"}
    seen = [Device(name=n, description="", kind=k, memory_total=0, memory_free=0) for n, k in kinds.items()]
    placed = placement(4, seen)
    assert placed == Placement(gpu_layers=3, devices=("CPU", "CUDA0", "CUDA1"))
    LOG.forget()
