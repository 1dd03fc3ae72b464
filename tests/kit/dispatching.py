"""A dispatcher with everything around it that is not under test played by script."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import trio

from meshnode.domain import GenerationRequest, ModelCard, PeerId
from meshnode.errors import ModelNotFound
from meshnode.events import Event
from meshnode.mesh.answer import Route
from meshnode.mesh.dispatch import MeshDispatcher, Surroundings
from meshnode.mesh.health import Health
from meshnode.mesh.local import Engines
from meshnode.models.names import match
from meshnode.net.transport import Link
from meshnode.observe import Metrics
from meshnode.wire.offer import Offer
from tests.kit.askers import Board, ScriptedAsker, ScriptedEngines, Step, model_offer, offer
from tests.kit.requests import prompt

Script = Sequence[Step | None]
NEVER: Script = [AssertionError("nobody is to ask here")]  # type: ignore[list-item]


class Shelf:
    """Some models; the first is the default."""

    def __init__(self, *cards: ModelCard) -> None:
        self._cards = cards

    def cards(self) -> Sequence[ModelCard]:
        """All."""
        return self._cards

    def resolve(self, name: str | None) -> ModelCard:
        """By the library's rules."""
        if name is None:
            if not self._cards:
                raise ModelNotFound("there are no models here.")
            return self._cards[0]
        return match(name, self._cards, {"mine": "here-1b"})


def _ever_slower(peers: Iterable[PeerId]) -> list[Offer]:
    return [offer(p, model_offer(decode_tps=900.0 / 3 ** min(n, 9))) for n, p in enumerate(peers)]


class Mesh:
    """A dispatcher, and all that it has around it."""

    def __init__(
        self,
        peers: Mapping[PeerId, Script] | Mapping[PeerId, list[Script]],
        *,
        engines: Engines | None = None,
        here: tuple[ModelCard, ...] = (),
        offers: Sequence[Offer] | None = None,
        seek: Callable[[str], Awaitable[None]] | None = None,
        links: dict[PeerId, Link] | None = None,
        chance: random.Random | None = None,
        answers_itself: bool = True,
        default_model: str = "auto",
    ) -> None:
        turns = {p: list(s) if s and isinstance(s[0], (list, tuple)) else [s] for p, s in peers.items()}
        self.asker = ScriptedAsker(turns)  # type: ignore[arg-type]
        self.engines = engines or ScriptedEngines(NEVER)
        # the order of trying: one after the other, as they stand
        self.board = Board(*(_ever_slower(peers) if offers is None else offers))
        self.health = Health(trio.current_time)
        self.metrics = Metrics()
        self.sought: list[str] = []
        self._seek = seek
        chance = chance or random.Random(1)
        self.dispatcher = MeshDispatcher(
            Surroundings(
                node=PeerId("alice"),
                library=Shelf(*here),
                pool=self.engines,
                offers=self.board,
                asker=self.asker,
                health=self.health,
                link=(links or {}).get,
                seek=self._seeking,
                entropy=lambda: chance.getrandbits(64),
                metrics=self.metrics,
                aliases={"mine": "m"},
                engines=answers_itself,
                default_model=default_model,
            )
        )

    async def _seeking(self, name: str) -> None:
        self.sought.append(name)
        if self._seek is not None:
            await self._seek(name)

    async def ask(self, request: GenerationRequest | None = None) -> tuple[list[Event], Route]:
        """All events of one request, and its route."""
        async with self.dispatcher.open(request or prompt(model="m")) as answer:
            events = [event async for event in answer]
            route = answer.route
        assert self.asker.open == 0
        return events, route

    @property
    def tried(self) -> list[PeerId]:
        """The peers that were asked, in order."""
        return [peer for peer, _ in self.asker.asked]

    def sample(self, series: str) -> float:
        """The value of one metric."""
        lines = [line for line in self.metrics.render()[0].decode().splitlines() if line.startswith(series)]
        return float(lines[0].split()[-1]) if lines else 0.0
