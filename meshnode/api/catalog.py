"""``/api/catalog``: what can be asked of this node now, here and in its mesh. Open to whoever may knock.

It counts nodes and names none. Speeds are medians of the newest answers that this node gave or relayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint

from meshnode.api.context import ApiContext, ModelStateView
from meshnode.api.models import elsewhere, state_of
from meshnode.domain import ModelCard, ModelId
from meshnode.engine.slot import BEST_FIRST
from meshnode.mesh.modes import CAPABILITIES, MODES
from meshnode.mesh.view import MeshModel


def catalog(context: ApiContext) -> Blueprint:
    """The endpoint."""
    routes = Blueprint("catalog", __name__)

    @routes.get("/api/catalog")
    async def listing() -> dict[str, Any]:
        """Live nodes, models that a request would find somebody for, how fast they are, how providers fare."""
        there = context.mesh.models()
        return {
            "nodes": _nodes(context, there),
            "providers": _providers(context),
            "models": _models(context, there),
            "modes": list(MODES),
            "capabilities": list(CAPABILITIES),
        }

    return routes


def _nodes(context: ApiContext, there: Sequence[MeshModel]) -> dict[str, int]:
    """How many are known to be alive, this one among them, and how many of them serve."""
    peers = context.mesh.peers()
    serving = {provider.peer for model in there for provider in model.providers}
    live = serving | {peer.peer for peer in peers if peer.connected}
    serves_itself = any(state.state == "ready" for state in context.pool.states())
    return {"live": len(live) + 1, "serving": len(serving) + serves_itself}


def _providers(context: ApiContext) -> dict[str, int]:
    """How those who serve fared: asked again at once, or let be for a while."""
    known = [peer for peer in context.mesh.peers() if peer.models]
    avoided = sum(bool(peer.avoided) for peer in known)
    return {
        "healthy": len(known) - avoided,
        "avoided": avoided,
        "successes": sum(peer.successes for peer in known),
        "failures": sum(peer.failures for peer in known),
    }


def _models(context: ApiContext, there: Sequence[MeshModel]) -> list[dict[str, Any]]:
    states = {state.id: state for state in context.pool.states()}
    cards = context.library.cards()
    here = [_here(context, card, states.get(card.id), there) for card in cards if _usable(states.get(card.id))]
    return [*here, *(_there(context, model) for model in elsewhere(there, cards))]


def _usable(state: ModelStateView | None) -> bool:
    return state is None or state.state in BEST_FIRST


def _here(
    context: ApiContext, card: ModelCard, state: ModelStateView | None, there: Sequence[MeshModel]
) -> dict[str, Any]:
    info = state.info if state is not None else None
    peers = next((len(each.providers) for each in there if each.id.lower() == card.id.lower()), 0)
    return {
        "id": card.id,
        "here": True,
        "providers": peers + 1,
        "state": state.state if state is not None else "unloaded",
        "kinds": list(card.kinds),
        "modalities": list(card.modalities),
        "context_length": info.n_ctx if info else card.context_length,
        **_pace(context, card.id),
    }


def _there(context: ApiContext, model: MeshModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "here": False,
        "providers": len(model.providers),
        "state": state_of(model),
        "kinds": list(model.kinds),
        "modalities": list(model.modalities),
        "context_length": model.context_length,
        **_pace(context, model.id),
    }


def _pace(context: ApiContext, model: ModelId) -> dict[str, Any]:
    pace = context.mesh.pace(model)
    return {
        "answers": pace.answers,
        "decode_tps_p50": None if pace.decode_tps is None else round(pace.decode_tps, 2),
        "first_token_ms_p50": None if pace.first_token_s is None else round(1000 * pace.first_token_s, 1),
    }
