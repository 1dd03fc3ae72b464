"""How tests load a model by llama.cpp."""

from __future__ import annotations

from pathlib import Path

from meshnode.engine.pipe import Load


def cpu_load(path: Path, *, n_ctx: int = 256, n_seq_max: int = 2, max_ctx: int = 32768) -> Load:
    """A load on one CPU thread."""
    return Load(path=str(path), n_ctx=n_ctx, n_seq_max=n_seq_max, max_ctx=max_ctx, threads=1, gpu_layers=0)
