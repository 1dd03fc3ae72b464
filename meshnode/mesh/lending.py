"""Which of this node's models strangers may use: what the configuration says, and what its owner said since. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from meshnode.domain import ModelId
from meshnode.models.names import split_name

EVERY = "*"


class Lending:
    """``named`` are names of models as people write them, or ``*``; ``overrides`` count more, by model id.

    A node that only uses the mesh (``nothing``) lends none, whatever is said.
    """

    def __init__(self, named: Collection[str], overrides: Mapping[ModelId, bool], *, nothing: bool = False) -> None:
        self._every = EVERY in named
        self._names = frozenset(split_name(name) for name in named if name != EVERY)
        self._overrides = dict(overrides)
        self._nothing = nothing

    def lends(self, model: ModelId) -> bool:
        """Whether strangers may use a model."""
        if self._nothing:
            return False
        said = self._overrides.get(model)
        if said is not None:
            return said
        base, label = split_name(model)
        return self._every or (base, label) in self._names or (base, None) in self._names

    def say(self, model: ModelId, on: bool) -> None:
        """From now on strangers may use it, or may not."""
        self._overrides[model] = on
