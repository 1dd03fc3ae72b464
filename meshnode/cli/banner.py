"""What ``up`` says once a request could be answered. Pure: a record in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Protocol

from meshnode import __version__
from meshnode.cli.show import labelled

SMALL_MODEL: Final = 1_000_000_000
"""Parameters below which a model is said to answer simple questions only."""


class ReadyModel(Protocol):
    """A model that answers, as loading it found it; ``decode_tps`` is tokens per second, 0 when not measured."""

    @property
    def id(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def gpu_layers(self) -> int: ...
    @property
    def devices(self) -> Sequence[str]: ...
    @property
    def decode_tps(self) -> float: ...


class Ready(Protocol):
    """A started node. ``api`` holds base URLs ending in ``/v1``; ``mesh`` and ``notes`` are sentences for its owner."""

    @property
    def api(self) -> Sequence[str]: ...
    @property
    def models(self) -> Sequence[ReadyModel]: ...
    @property
    def peer_id(self) -> str: ...
    @property
    def addresses(self) -> Sequence[str]: ...
    @property
    def mesh(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...


def render(ready: Ready) -> str:
    """The banner, for a terminal."""
    pairs = [("API", "\n".join(ready.api)), ("Chat page", ready.api[0].removesuffix("v1") if ready.api else "")]
    for model in ready.models:
        pairs += [("Model", f"{model.id} (context {model.context_length} tokens)"), ("Runs on", _placement(model))]
        pairs += [("Speed", f"{model.decode_tps:.0f} tokens/s as measured" if model.decode_tps else "")]
    if not ready.models:
        pairs += [("Model", "none loaded")]
    pairs += [("Peer id", ready.peer_id), ("Listening", "\n".join(ready.addresses)), ("Mesh", ready.mesh)]
    parts = [f"meshnode {__version__} is ready. Ctrl-C stops it.", labelled(pairs, indent="  ")]
    if ready.api and ready.models:
        parts.append(f"Try it:\n  {curl_line(ready.api[0])}")
    notes = [*(_small(model) for model in ready.models if 0 < model.parameters < SMALL_MODEL), *ready.notes]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"


def as_object(ready: Ready) -> dict[str, object]:
    """The same for programs: plain values for JSON."""
    return {
        "version": __version__,
        "api": list(ready.api),
        "models": [_model_object(model) for model in ready.models],
        "peer_id": ready.peer_id,
        "addresses": list(ready.addresses),
        "mesh": ready.mesh,
        "notes": list(ready.notes),
    }


def curl_line(api: str) -> str:
    """One line that asks the node something when pasted into a shell; ``api`` ends in ``/v1``."""
    body = json.dumps({"messages": [{"role": "user", "content": "Say hello in five words."}]})
    return f"curl {api}/chat/completions -H 'Content-Type: application/json' -d '{body}'"


def _placement(model: ReadyModel) -> str:
    devices = ", ".join(model.devices) or "CPU"
    if not model.gpu_layers:
        return f"{devices}, no layer on a GPU"
    return f"{devices}, {model.gpu_layers} of {model.layers} layers on the GPU"


def _small(model: ReadyModel) -> str:
    return f"{model.id} has {model.parameters / 1e6:.0f} M parameters: it answers simple questions only."


def _model_object(model: ReadyModel) -> dict[str, object]:
    return {
        "id": str(model.id),
        "parameters": model.parameters,
        "context_length": model.context_length,
        "layers": model.layers,
        "gpu_layers": model.gpu_layers,
        "devices": list(model.devices),
        "decode_tps": model.decode_tps,
    }
