"""Whether a model has room in memory beside others: the question a pool asks before it loads, as types. Pure.

What is free and what a model takes is not the pool's to know: whoever opens it hands it a :data:`Room`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshnode.domain import ModelCard


class Tenant(NamedTuple):
    """A model that has, or is about to have, its place in memory.

    ``settled``: it is loaded, so that what it takes counts as free no more.
    """

    card: ModelCard
    settled: bool


class Verdict(NamedTuple):
    """Whether a model fits; ``sentence`` names it and has the numbers where it does not.

    ``needed`` is what it should take, in bytes; 0 where nobody reckoned.
    """

    fits: bool
    sentence: str = ""
    needed: int = 0


Room = Callable[[ModelCard, Sequence[Tenant], Sequence[Tenant]], Verdict]
"""Whether a model fits beside the tenants that stay, once those that leave are gone."""


def boundless(_card: ModelCard, _staying: Sequence[Tenant], _leaving: Sequence[Tenant]) -> Verdict:
    """A :data:`Room` for everybody."""
    return Verdict(True)
