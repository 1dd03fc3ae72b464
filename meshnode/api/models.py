"""``GET /v1/models`` and ``/v1/models/{id}``: OpenAI's shape, with what this node knows beside it."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from meshnode.api.context import ApiContext, ModelStateView
from meshnode.domain import ModelCard


def models(context: ApiContext) -> Blueprint:
    """The two endpoints."""
    routes = Blueprint("models", __name__)

    @routes.get("/v1/models")
    async def listing() -> dict[str, Any]:
        """All models of this node."""
        states = {state.id: state for state in context.pool.states()}
        return {"object": "list", "data": [entry(card, states.get(card.id)) for card in context.library.cards()]}

    @routes.get("/v1/models/<path:name>")
    async def one(name: str) -> dict[str, Any]:
        """One model, by any of its names. Raises ModelNotFound."""
        card = context.library.resolve(name)
        return entry(card, next((state for state in context.pool.states() if state.id == card.id), None))

    return routes


def entry(card: ModelCard, state: ModelStateView | None) -> dict[str, Any]:
    """One model; the speeds (tokens per second) are ``null`` until it was loaded and measured."""
    info = state.info if state is not None else None
    return {
        "id": card.id,
        "object": "model",
        "created": card.added,
        "owned_by": "local",
        "context_length": info.n_ctx if info else card.context_length,
        "quantisation": card.quantisation,
        "licence": card.license,
        "family": card.family or card.architecture,
        "parameters": card.parameters,
        "size_bytes": card.size,
        "modalities": list(card.modalities),
        "state": state.state if state is not None else "unloaded",
        "decode_tps": round(info.decode_tps, 2) if info else None,
        "prefill_tps": round(info.prefill_tps, 2) if info else None,
    }
