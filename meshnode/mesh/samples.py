"""How fast answers were lately, model by model: the newest few of each, kept in memory. Pure."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from typing import Final

from meshnode.domain import ModelId, Record
from meshnode.mesh.failover import Speed

MOST_MODELS: Final = 512
"""Models of which samples are kept; the one not used for longest is forgotten first."""
MOST_OF_EACH: Final = 64
"""Samples of one model."""


class Pace(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Medians of the newest answers with a model, whoever gave them; None where nothing was measured."""

    answers: int = 0
    decode_tps: float | None = None
    first_token_s: float | None = None


UNMEASURED: Final = Pace()


class Samples:
    """Speeds by model."""

    def __init__(self) -> None:
        self._models: OrderedDict[ModelId, deque[Speed]] = OrderedDict()

    def note(self, model: ModelId, speed: Speed) -> None:
        """An answer went well."""
        if speed.first_token_s is None:
            return
        found = self._models.setdefault(model, deque(maxlen=MOST_OF_EACH))
        found.append(speed)
        self._models.move_to_end(model)
        if len(self._models) > MOST_MODELS:
            self._models.popitem(last=False)

    def pace(self, model: ModelId) -> Pace:
        """The figures of one model."""
        found = self._models.get(model)
        if not found:
            return UNMEASURED
        return Pace(
            answers=len(found),
            decode_tps=_median([one.decode_tps for one in found if one.decode_tps is not None]),
            first_token_s=_median([one.first_token_s for one in found if one.first_token_s is not None]),
        )


def _median(figures: list[float]) -> float | None:
    return statistics.median(figures) if figures else None
