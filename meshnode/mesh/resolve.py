"""Which model a name stands for: one of this node's files, models that peers offer, or both. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from meshnode.domain import ModelCard, ModelId, PeerId, Record
from meshnode.errors import ModelNotFound
from meshnode.models.names import MAX_NAME, nearest, split_name, unaliased
from meshnode.wire.offer import Offer

LONGEST_ID: Final = 128
"""Characters of a model id; offers of longer ones are passed over."""
_MOST_COMPARED: Final = 1000
_MOST_ASKED: Final = 64
_NONE_HINT: Final = "Fetch one: meshnode pull default; or join nodes that have some: meshnode join ADDR"


class Resolver(Protocol):
    """Knows this node's models by the names callers use; :class:`meshnode.models.library.Library` is one."""

    def cards(self) -> Sequence[ModelCard]:
        """Every model here."""

    def resolve(self, name: str | None) -> ModelCard:
        """The model of that name, or the default. Raises ModelNotFound."""


class Offers(Protocol):
    """What peers offer now; :class:`meshnode.mesh.offers.OfferBook` is one. ``now`` in monotonic seconds."""

    @property
    def version(self) -> int:
        """Rises when peers, or the models they offer, change; not with load."""

    def offers(self, now: float) -> Sequence[Offer]:
        """Every offer that is good now."""

    def offer(self, peer: PeerId, now: float) -> Offer | None:
        """What ``peer`` offers now."""


class Catalogue:
    """Models that peers offer, by id without case, each with its providers. Built once for many requests.

    What the peer ``but`` offers is left out.
    """

    def __init__(self, offers: Iterable[Offer] = (), *, but: PeerId | None = None) -> None:
        self._providers: dict[str, dict[PeerId, None]] = {}  # sets that keep their order
        self._named: dict[str, dict[str, None]] = {}
        self._parameters: dict[str, int] = {}
        self._traits: dict[str, set[str]] = {}
        self._having: dict[tuple[frozenset[str], int, bool], list[str]] = {}
        for offer in offers:
            peer = PeerId(offer.peer)
            for model in offer.models if peer != but else ():
                key = folded(model.id)
                if not _proper(key):
                    continue
                self._providers.setdefault(key, {})[peer] = None
                self._named.setdefault(_bare(key), {})[key] = None
                self._parameters[key] = max(model.parameters, self._parameters.get(key, 0))
                self._traits.setdefault(key, set()).update(model.kinds, model.modalities, model.features)

    def ids(self) -> Sequence[str]:
        """Every model."""
        return tuple(self._providers)

    def matches(self, wanted: str) -> tuple[str, ...]:
        """The models that ``wanted`` stands for: a whole id is itself, a bare name every quantisation of it."""
        base, label = split_name(wanted)
        for key in (folded(wanted), f"{base}:{label}"):
            if key in self._providers:
                return (key,)
        return tuple(self._named.get(base, ())) if label is None else ()

    def commonest(self) -> str | None:
        """The model with the most providers, of those the largest; None when there is none."""
        keys = self._providers
        return min(keys, key=lambda key: (-len(keys[key]), -self._parameters[key], key), default=None)

    def having(self, traits: frozenset[str], most: int, *, largest: bool) -> list[str]:
        """The models that some peer offers with all of ``traits``: those with the most providers, or the largest."""
        keys, size, asked = self._providers, self._parameters, (traits, most, largest)
        if asked in self._having:
            return self._having[asked]

        def place(key: str) -> tuple[int, int, str]:
            return (-size[key], -len(keys[key]), key) if largest else (-len(keys[key]), -size[key], key)

        if len(self._having) >= _MOST_ASKED:
            self._having.clear()
        found = heapq.nsmallest(most, (key for key in keys if traits <= self._traits[key]), key=place)
        self._having[asked] = found
        return found

    def providers(self, keys: Iterable[str]) -> list[tuple[PeerId, str]]:
        """Who offers any of these models, and which of them."""
        return [(peer, key) for key in keys for peer in self._providers.get(key, ())]


class Meaning(Record, frozen=True, kw_only=True):
    """What a name stands for: ``card`` here, and ``keys`` of models in the catalogue. At least one of them is there.

    ``model`` is the id to be shown where nobody has answered yet.
    """

    model: ModelId
    card: ModelCard | None = None
    keys: tuple[str, ...] = ()


def resolve(name: str, library: Resolver, catalogue: Catalogue, aliases: Mapping[str, str]) -> Meaning:
    """What ``name`` stands for; without one, the default here, or else what most peers have.

    Aliases hold for both. Raises ModelNotFound with the nearest names of this node and its peers.
    """
    card = _here(name, library)
    keys = catalogue.matches(unaliased(name, aliases)) if name else ()
    if not keys and card is not None:  # a default, or a file's path
        keys = catalogue.matches(card.id)
    if not keys and not name and (common := catalogue.commonest()) is not None:
        keys = (common,)
    if card is not None:
        return Meaning(model=card.id, card=card, keys=keys)
    if keys:
        return Meaning(model=ModelId(keys[0]), keys=keys)
    raise _not_found(name, library, catalogue, aliases)


def folded(model: str) -> str:
    """A model id as it is compared."""
    return model.strip().lower()


def _proper(key: str) -> bool:
    """Whether an id that a peer made up is one that people can be shown, and type."""
    return 0 < len(key) <= LONGEST_ID and key.isascii() and key.isprintable()


def _bare(key: str) -> str:
    return key.rpartition(":")[0] or key


def _here(name: str, library: Resolver) -> ModelCard | None:
    try:
        return library.resolve(name or None)
    except ModelNotFound:
        return None


def _not_found(name: str, library: Resolver, catalogue: Catalogue, aliases: Mapping[str, str]) -> ModelNotFound:
    ids = list(dict.fromkeys([*(str(card.id) for card in library.cards()), *catalogue.ids()]))
    if not name:
        what = "there are no models here, and no peer offers one."
        return ModelNotFound(what, hint=_NONE_HINT, param="model")
    shown = repr(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "...")
    what = f"no model {shown}, neither here nor offered by a peer."
    near = nearest(name, [*aliases, *ids[:_MOST_COMPARED], *(_bare(key) for key in ids[:_MOST_COMPARED])])
    if near:
        return ModelNotFound(what, hint=f"Did you mean {' or '.join(near)}?", param="model")
    some = ", ".join(sorted(ids)[:3]) + (", …" if len(ids) > 3 else "")
    return ModelNotFound(what, hint=f"There are: {some}" if ids else _NONE_HINT, param="model")
