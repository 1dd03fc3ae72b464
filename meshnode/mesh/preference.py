"""What a caller wishes of those who could answer (OpenRouter's ``provider``): who may, and in which order. Pure.

Source: OpenRouter's documentation of provider routing. A provider is named by its peer id, by the first characters of
it, or ``local`` for this node, whose own answers cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from meshnode.domain import Preference, Sort
from meshnode.models.quantisation import normal_label
from meshnode.wire.fields import Prices

HERE: Final = "local"
"""This node, in a list of providers."""
FREE: Final = Prices(0, 0, 0, 0)
"""What this node's own answers cost."""
NEAR: Final = 1.2
"""Figures within this factor are nearly equal."""
_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "int4": ("q4", "iq4"),
    "int8": ("q8",),
    "fp4": ("mxfp4", "nvfp4"),
    "fp6": ("q6",),
}
"""OpenRouter's words for quantisations, and what our labels begin with."""


class Ranked(Protocol):
    """One who can answer, as far as its place in the order depends on it."""

    @property
    def kind(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def expected_ms(self) -> float: ...
    @property
    def first_ms(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def cost_uc(self) -> int: ...


R = TypeVar("R", bound=Ranked)

_KEYS: Final[Mapping[Sort, Callable[[Ranked], float]]] = {
    Sort.PRICE: lambda one: one.cost_uc,
    Sort.THROUGHPUT: lambda one: -_about(one.rate),
    Sort.LATENCY: lambda one: _about(one.first_ms),
    Sort.TIME: lambda one: _about(one.expected_ms),
}
"""What each order goes by; equals stay in the order they were drawn in."""


def _about(figure: float) -> int:
    """Nearly equal figures are equal, so that a thousand callers do not all choose the same."""
    return math.floor(math.log(figure, NEAR)) if figure > 0 else -1000


def unwanted(wish: Preference, *, local: bool, node: str, quantisation: str, prices: Prices) -> str:
    """Why a provider is not to be asked, in a few words; empty when it may be."""
    if wish.here_only and not local:
        return "is a peer, and the request is to stay on this node (provider.data_collection)"
    if wish.only and not _named(wish.only, local, node):
        return "is not in provider.only"
    if _named(wish.ignore, local, node):
        return "is in provider.ignore"
    if wish.order and not wish.fallbacks and not _named(wish.order, local, node):
        return "is not in provider.order, and provider.allow_fallbacks is false"
    if wish.quantisations and not any(_is_of(quantisation, wanted) for wanted in wish.quantisations):
        return f"has it as {quantisation or 'unknown'}, which is not in provider.quantizations"
    return _too_dear(wish, prices)


def arranged(wish: Preference, candidates: Sequence[R]) -> list[R]:
    """Those who can answer, as the caller wants them: sorted, then whom it named first, and nobody it ruled out."""
    found = list(candidates)
    if wish.sort is not None:
        found.sort(key=_KEYS[wish.sort])
    if wish.order:
        found.sort(key=lambda one: _place(wish.order, one))
    elif not wish.fallbacks:
        del found[1:]
    return found


def _place(order: Sequence[str], one: Ranked) -> int:
    local = one.kind == "local"
    return next((at for at, entry in enumerate(order) if _named((entry,), local, one.node)), len(order))


def _named(entries: Sequence[str], local: bool, node: str) -> bool:
    return any((local and entry == HERE) or node.startswith(entry) for entry in entries)


def _is_of(label: str, wanted: str) -> bool:
    label, wanted = normal_label(label), normal_label(wanted)
    if wanted in _FAMILIES:
        return label.startswith(_FAMILIES[wanted])
    return label == wanted or label.startswith(f"{wanted}_") or (wanted == "unknown" and not label)


def _too_dear(wish: Preference, prices: Prices) -> str:
    for name, price, most in (
        ("prompt", prices.input_uc, wish.most_prompt_uc),
        ("completion", prices.output_uc, wish.most_output_uc),
        ("request", prices.request_uc, wish.most_request_uc),
    ):
        if most is not None and price > most:
            return f"asks {price} µc, over provider.max_price.{name} ({most:g})"
    return ""
