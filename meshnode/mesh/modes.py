"""Router modes: which model answers where the request names none, only what matters to it. Pure.

``auto``      a model that is loaded here, the default one first; then the default; then the least time expected
``fast``      the least time expected
``cheapest``  the fewest credits, then the least time; what is answered here costs nothing
``best``      the most parameters times bits per weight, then the least time

``mode:capability`` (``fast:vision``) takes only models that have it. A model or an alias that is really so called goes
before a mode; that is for whoever resolves names to see to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from meshnode.domain import Kind, ModelCard, ModelId, Preference, Record, Sort
from meshnode.errors import CapabilityUnavailable, ModelNotFound
from meshnode.mesh.estimate import FEATURES, Needs, cost_uc, of_local, of_peer
from meshnode.mesh.route import Local, Peer, closed, closed_here
from meshnode.mesh.sticky import MUCH_SLOWER
from meshnode.wire.offer import ModelOffer

AUTO: Final = "auto"
MODES: Final = (AUTO, "fast", "cheapest", "best")
CAPABILITIES: Final[Mapping[str, str]] = {
    "text": Kind.GENERATE.value,
    "chat": Kind.GENERATE.value,
    "embed": Kind.EMBED.value,
    "embeddings": Kind.EMBED.value,
    "rerank": Kind.RERANK.value,
    "vision": "image",
    "image": "image",
    "audio": "audio",
    "tools": "tools",
    "schema": "schema",
    "json": "schema",
    "grammar": "grammar",
    "logprobs": "logprobs",
}
"""What may stand behind a mode, and the trait of a model that it asks for."""
MOST_RUNGS: Final = 3
"""Models that one mode tries, one after the other."""
_SORTS: Final[Mapping[str, Sort]] = {"fast": Sort.TIME, "cheapest": Sort.PRICE}
_LOADED: Final = "loaded here"
_DEFAULT: Final = "the default here"
_BITS: Final = re.compile(r"\d+")
_UNKNOWN_BITS: Final = 4


class Mode(NamedTuple):
    """How a model is to be chosen; ``capability`` is what it must have besides what the request needs."""

    name: str
    capability: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.capability}" if self.capability else self.name


class Option(NamedTuple):
    """A model that could be chosen: where it stands here, and some of the peers that offer it.

    ``default`` is whether it is the one that this node takes where nobody says which.
    """

    model: ModelId
    local: Local | None
    peers: Sequence[Peer]
    default: bool = False


class Chosen(Record, frozen=True, kw_only=True):
    """A model for the request, and why in a few words; ``closed`` says why it cannot be had now, if so."""

    model: ModelId
    reason: str
    closed: str = ""


def mode_of(name: str) -> Mode | None:
    """The mode that a name means, if it is one. Raises ModelNotFound for a mode with a capability nobody knows."""
    mode, colon, capability = name.strip().lower().partition(":")
    if mode not in MODES:
        return None
    if colon and capability not in CAPABILITIES:
        hint = f"After {mode}: one of {', '.join(CAPABILITIES)}."
        raise ModelNotFound(f"no model {name[:96]!r}, and no such capability.", hint=hint, param="model")
    return Mode(mode, capability)


def one_model(name: str) -> str | None:
    """The one model that a request asks for by ``name``; None where it leaves that to this node."""
    mode, _, capability = name.strip().lower().partition(":")
    free = not mode or (mode in MODES and (not capability or capability in CAPABILITIES))
    return None if free else name


def traits_of(need: Needs, mode: Mode) -> frozenset[str]:
    """What a model must have for a request in a mode: a kind, modalities, features."""
    asked = {CAPABILITIES[mode.capability]} if mode.capability else set()
    kind = {need.kind.value} if need.kind is not Kind.COUNT else set()  # every model of this node counts
    return frozenset({*kind, *need.modalities, *need.features, *asked})


def traits_here(card: ModelCard) -> frozenset[str]:
    """What a model of this node has."""
    features = FEATURES if Kind.GENERATE.value in card.kinds else ()
    return frozenset({*card.kinds, *card.modalities, *features})


def traits_there(model: ModelOffer) -> frozenset[str]:
    """What a model that a peer offers has."""
    return frozenset({*model.kinds, *model.modalities, *model.features})


def wish_of(mode: Mode, wish: Preference) -> Preference:
    """The caller's wishes, with the order that the mode gives where the caller gave none."""
    return msgspec.structs.replace(wish, sort=wish.sort or _SORTS.get(mode.name))


def choose(
    mode: Mode, need: Needs, wish: Preference, options: Iterable[Option], held: ModelId | None = None
) -> list[Chosen]:
    """The models to try, best first; those that cannot be had now come last. ``options`` have what is needed.

    ``held`` is the model that the session has been answered by: it goes on with it unless that is much slower.
    """
    judged = [(_Judged(need, wish, option), option) for option in options]
    judged.sort(key=lambda pair: _key(mode, *pair))
    least = min((judge.ms for judge, _ in judged), default=0.0)
    judged.sort(key=lambda pair: pair[1].model != held or bool(pair[0].closed) or pair[0].ms > MUCH_SLOWER * least)
    return [
        Chosen(model=option.model, reason=_reason(mode, judge, option), closed=judge.closed)
        for judge, option in judged[:MOST_RUNGS]
    ]


def is_near(chosen: Chosen) -> bool:
    """Whether ``auto`` looks no further than this: it is loaded here, or to be loaded as the default."""
    return not chosen.closed and chosen.reason in (_LOADED, _DEFAULT)


def nothing(mode: Mode, traits: Iterable[str]) -> CapabilityUnavailable:
    """The error where no model, here or at a peer, has what is needed."""
    wanted = ", ".join(sorted(traits))
    what = f"model {str(mode)!r}: no model, here or offered by a peer, has {wanted}."
    return CapabilityUnavailable(what, hint="Load one that has it, or ask for less.", param="model")


class _Judged:
    """What one model would take: the best of those who can serve it."""

    def __init__(self, need: Needs, wish: Preference, option: Option) -> None:
        self.ms, self.cost = float("inf"), 0
        self.here = self.loaded = False
        reasons = []
        if option.local is not None:
            _, reason = closed_here(need, wish, option.local)
            reasons.append(reason)
            if not reason:
                self.here, self.loaded = True, option.local.state.state == "ready"
                self.ms = of_local(need, option.local.state).total_ms
        costs = [] if not self.here else [0]
        for peer in option.peers:
            expected = of_peer(need, peer.model, peer.history, peer.rtt_s, peer.connected)
            _, reason = closed(need, wish, peer, expected)
            reasons.append(reason)
            if not reason:
                self.ms = min(self.ms, expected.total_ms)
                costs.append(cost_uc(peer.model.prices, prompt=need.prompt, output=need.output))
        self.cost = min(costs, default=0)
        self.closed = "" if costs else next(iter(reasons), "nobody serves it")


def _key(mode: Mode, judged: _Judged, option: Option) -> tuple[object, ...]:
    shut, name = bool(judged.closed), str(option.model)
    match mode.name:
        case "cheapest":
            return (shut, judged.cost, judged.ms, name)
        case "best":
            return (shut, -_quality(option), judged.ms, name)
        case "fast":
            return (shut, judged.ms, name)
        case _:
            return (shut, _distance(judged, option), judged.ms, name)


def _distance(judged: _Judged, option: Option) -> int:
    """The default loaded here, another loaded here, the default to be loaded, anything else."""
    if judged.loaded:
        return 0 if option.default else 1
    return 2 if judged.here and option.default else 3


def _quality(option: Option) -> int:
    """Bits of all weights, as far as they are known."""
    if option.local is not None:
        card = option.local.card
        return card.parameters * _bits(card.quantisation)
    return max((peer.model.parameters * _bits(peer.model.quantisation) for peer in option.peers), default=0)


def _bits(label: str) -> int:
    found = _BITS.search(label)
    return min(int(found[0]), 32) if found else _UNKNOWN_BITS


def _reason(mode: Mode, judged: _Judged, option: Option) -> str:
    if judged.closed:
        return judged.closed
    match mode.name:
        case "cheapest":
            return f"about {judged.cost} µc"
        case "best":
            return f"{_quality(option) / 8e9:.1f} GB of weights"
        case "fast":
            return f"about {judged.ms:.0f} ms"
        case _:
            place = _LOADED if judged.loaded else _DEFAULT if judged.here and option.default else ""
            return place or f"about {judged.ms:.0f} ms"
