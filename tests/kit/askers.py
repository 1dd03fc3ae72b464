"""Peers that do as a script says: offers of theirs, an asker that plays their answers, and an engine likewise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from meshnode.domain import GenerationRequest, ModelCard, ModelId, PeerId
from meshnode.engine.gate import Gate
from meshnode.engine.slot import ModelState
from meshnode.errors import MeshnodeError
from meshnode.events import Event, Failed, Finished, Started, TextDelta, Usage
from meshnode.mesh.asker import PeerRefused
from meshnode.wire.fields import Prices
from meshnode.wire.messages import Refuse
from meshnode.wire.offer import ModelOffer, Offer

HANG = float("inf")
"""A step after which nothing comes."""

Step = Event | MeshnodeError | float
"""What happens next: an event, an error raised, or so many seconds of silence."""
ACCEPT = None


def answers(text: str = "abc", *, seed: int = 0, after: float = 0.0) -> Sequence[Step | None]:
    """A whole answer, a token for each character."""
    said = [TextDelta(char, token_ids=(ord(char),)) for char in text]
    return [ACCEPT, Started(5, seed=seed), after, *said, Finished(Usage(5, len(text)))]


def dies(after: str = "", code: str = "stream_reset") -> Sequence[Step | None]:
    """Accepts, says ``after``, and fails."""
    return [ACCEPT, Started(5), *(TextDelta(char, token_ids=(1,)) for char in after), Failed(code, f"its own {code}.")]


def refuses(code: str = "overloaded", *, retry_ms: int = 0, alternates: Sequence[str] = ()) -> Sequence[Step | None]:
    """Says no."""
    return [PeerRefused(Refuse(1, code, "its own words.", retry_ms, tuple(alternates)))]


class _Playing:
    """The events of one script; each that is played costs 100."""

    def __init__(self, steps: Sequence[Step | None]) -> None:
        self._steps = list(steps)
        self.cost_uc = 0

    async def accepted(self) -> None:
        """Play up to the acceptance."""
        while self._steps:
            step = self._steps.pop(0)
            if step is ACCEPT:
                return
            await self._play(step)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while self._steps:
            event = await self._play(self._steps.pop(0))
            if event is not None:
                self.cost_uc += 100
                return event
        raise StopAsyncIteration

    async def _play(self, step: Step | None) -> Event | None:
        await trio.lowlevel.checkpoint()
        if isinstance(step, float):
            await trio.sleep(step)
            return None
        if isinstance(step, MeshnodeError):
            raise step.with_traceback(None) from None
        return step


class ScriptedAsker:
    """An :class:`meshnode.mesh.asker.Asker`: each peer plays its scripts in turn, the last one again and again."""

    def __init__(self, scripts: Mapping[str, Sequence[Sequence[Step | None]]]) -> None:
        self._scripts = {peer: list(turns) for peer, turns in scripts.items()}
        self.asked: list[tuple[PeerId, GenerationRequest]] = []
        """Who was asked, and for what, in order."""
        self.open = 0
        """Answers entered and not left."""

    @asynccontextmanager
    async def ask(
        self, peer: PeerId, request: GenerationRequest, offer: Offer, model: ModelOffer
    ) -> AsyncIterator[_Playing]:
        """Play the peer's next script."""
        assert offer.peer == peer
        assert model in offer.models
        assert request.model == model.id
        self.asked.append((peer, request))
        turns = self._scripts[peer]
        playing = _Playing(turns.pop(0) if len(turns) > 1 else turns[0])
        self.open += 1
        try:
            await playing.accepted()
            yield playing
        finally:
            self.open -= 1


class ScriptedEngines:
    """:class:`meshnode.mesh.local.Engines` that play scripts in turn, the last one again and again."""

    def __init__(self, *scripts: Sequence[Step | None], state: str = "ready") -> None:
        self._scripts = list(scripts)
        self._state = state
        self.draining = False
        self.asked: list[GenerationRequest] = []

    def state(self, model: ModelId) -> ModelState:
        """The same of every model."""
        return ModelState(id=model, state=self._state, reason="it is broken" if self._state == "failed" else "")

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, card: ModelCard, gate: Gate | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Play the next script."""
        self.asked.append(request)
        playing = _Playing(self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])
        await playing.accepted()
        yield playing


class Board:
    """:class:`meshnode.mesh.resolve.Offers` that were put up by hand."""

    def __init__(self, *offers: Offer) -> None:
        self.version = 1
        self.looked = 0
        """How often one peer's offer was looked at."""
        self._offers = {PeerId(offer.peer): offer for offer in offers}

    def put(self, *offers: Offer) -> None:
        """Put up more, or newer ones."""
        self._offers |= {PeerId(offer.peer): offer for offer in offers}
        self.version += 1

    def take_down(self, peer: str) -> None:
        """A peer is gone."""
        del self._offers[PeerId(peer)]
        self.version += 1

    def offers(self, now: float) -> Sequence[Offer]:
        """All."""
        return tuple(self._offers.values())

    def offer(self, peer: PeerId, now: float) -> Offer | None:
        """One peer's."""
        self.looked += 1
        return self._offers.get(peer)


def model_offer(name: str = "m:q4_0", **fields: Any) -> ModelOffer:
    """A model as an idle peer offers it."""
    defaults: dict[str, Any] = {
        "weights": b"",
        "template": b"",
        "quantisation": "q4_0",
        "context": 4096,
        "kv_type": "f16",
        "modalities": ("text",),
        "features": (),
        "kinds": ("generate",),
        "prices": Prices(1, 1, 10, 100),
        "decode_tps": 50.0,
        "first_token_ms": 100.0,
        "slots": 4,
        "free": 4,
        "queue": 0,
        "state": "ready",
        "parameters": 10**9,
        "family": "fake",
        "license": "",
    }
    return ModelOffer(id=name, **(defaults | fields))


def offer(peer: str, *models: ModelOffer, **fields: Any) -> Offer:
    """What a peer offers; ``m:q4_0`` unless it says otherwise."""
    defaults: dict[str, Any] = {
        "network": bytes(8),
        "ledger": bytes(32),
        "issued_ms": 1,
        "ttl_s": 120,
        "addresses": (),
        "privacy": ("standard",),
        "max_body": 8 << 20,
        "region": "",
        "software": "",
    }
    return Offer(peer=peer, models=models or (model_offer(),), **(defaults | fields))
