"""How fast a model will be here: as it was last time, or as others were for each byte of weights they read. Pure.

Decoding one token reads every active weight once, so tokens per second times those bytes is about the same for all
models in the same memory (the machine's bandwidth, as llama.cpp uses it). Quantisations differ in how much they
compute, so this is an estimate; a model that was loaded before has its own figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Literal

from meshnode.domain import ModelCard, ModelId, Record

KEPT = 64
"""Loads that are remembered."""

Source = Literal["measured", "estimated", "unknown"]


class Load(Record, frozen=True):
    """One load of a model: what it read for a token (bytes), how fast it was (tokens per second), where it was."""

    model: ModelId
    active_bytes: int
    decode_tps: float
    on_gpu: bool = False


class Pace(Record, frozen=True, omit_defaults=False):
    """Tokens per second, 0 where nobody knows, and where the figure is from."""

    decode_tps: float
    source: Source
    sentence: str


class Speeds:
    """The speeds of earlier loads on this machine, oldest first."""

    def __init__(self, loads: Iterable[Load] = ()) -> None:
        self._loads: list[Load] = []
        for load in loads:
            self.remember(load)

    def remember(self, load: Load) -> None:
        """A model was loaded and measured."""
        if load.decode_tps > 0:
            self._loads = [*self._loads[1 - KEPT :], load]

    def of(self, card: ModelCard, *, on_gpu: bool) -> Pace:
        """How fast ``card`` will be, wholly on a GPU or not."""
        same = [load for load in self._loads if load.on_gpu == on_gpu]
        own = [load for load in same if load.model == card.id]
        if own:
            tps = own[-1].decode_tps
            return Pace(decode_tps=tps, source="measured", sentence=f"{_shown(tps)} tokens/s when it was last loaded.")
        rates = [load.decode_tps * load.active_bytes for load in same if load.active_bytes]
        reads = card.active_bytes or card.size
        if not rates or not reads:
            return Pace(decode_tps=0.0, source="unknown", sentence="How fast is unknown until a model was loaded here.")
        tps = median(rates) / reads
        others = len({load.model for load in same})
        models = f"{others} model{'s' if others > 1 else ''}"
        sentence = f"About {_shown(tps)} tokens/s, by the speed of {models} loaded here before."
        return Pace(decode_tps=tps, source="estimated", sentence=sentence)


def _shown(tps: float) -> str:
    return f"{tps:.0f}" if tps >= 10 else f"{tps:.1f}"
