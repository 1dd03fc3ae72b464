"""``GET /v1/models`` and ``/v1/models/{id}``: OpenAI's shape, with what this node and its mesh know beside it.

Who sends ``anthropic-version`` gets Anthropic's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quart import Blueprint, request

from meshnode.api.context import ApiContext, ModelStateView
from meshnode.api.messages.models import info, page
from meshnode.domain import ModelCard
from meshnode.engine.slot import BEST_FIRST
from meshnode.errors import ModelNotFound
from meshnode.mesh.view import MeshModel, ProviderView
from meshnode.models.names import nearest, split_name, unaliased


def models(context: ApiContext) -> Blueprint:
    """The two endpoints."""
    routes = Blueprint("models", __name__)

    @routes.get("/v1/models")
    async def listing() -> dict[str, Any]:
        """All models of this node, then those that only peers serve."""
        states = {state.id: state for state in context.pool.states()}
        cards, there = context.library.cards(), context.mesh.models()
        here = [entry(card, states.get(card.id), providers(card.id, there)) for card in cards]
        data = [*here, *(mesh_entry(model) for model in elsewhere(there, cards))]
        if not _anthropic():
            return {"object": "list", "data": data}
        names = {card.id: card.name for card in cards}
        return page([info(each, names.get(each["id"], "")) for each in data], request.args)

    @routes.get("/v1/models/<path:name>")
    async def one(name: str) -> dict[str, Any]:
        """One model, by any of its names; this node's own first. Raises ModelNotFound."""
        there = context.mesh.models()
        try:
            card = context.library.resolve(name)
        except ModelNotFound as error:
            found = named(unaliased(name, context.aliases), there)
            if found is None:
                raise _not_found(error, name, context.library.cards(), there) from None
            return info(mesh_entry(found)) if _anthropic() else mesh_entry(found)
        state = next((state for state in context.pool.states() if state.id == card.id), None)
        shown = entry(card, state, providers(card.id, there))
        return info(shown, card.name) if _anthropic() else shown

    return routes


def _anthropic() -> bool:
    """Whether the client is one of Anthropic's."""
    return bool(request.headers.get("anthropic-version"))


def entry(card: ModelCard, state: ModelStateView | None, providers: Sequence[ProviderView] = ()) -> dict[str, Any]:
    """A model of this node and the peers that serve it too; speeds (tokens per second) ``null`` until measured."""
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
        "kinds": list(card.kinds),
        "state": state.state if state is not None else "unloaded",
        "decode_tps": round(info.decode_tps, 2) if info else None,
        "prefill_tps": round(info.prefill_tps, 2) if info else None,
        **_provided(providers),
    }


def mesh_entry(model: MeshModel) -> dict[str, Any]:
    """A model that only peers serve; its speed is that of the fastest, as that one says."""
    fastest = max((provider.decode_tps for provider in model.providers), default=0.0)
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "mesh",
        "context_length": model.context_length,
        "quantisation": model.quantisation,
        "licence": model.license,
        "family": model.family,
        "parameters": model.parameters,
        "size_bytes": None,
        "modalities": list(model.modalities),
        "kinds": list(model.kinds),
        "state": state_of(model),
        "decode_tps": round(fastest, 2) if fastest else None,
        "prefill_tps": None,
        **_provided(model.providers),
    }


def providers(model: str, there: Sequence[MeshModel]) -> tuple[ProviderView, ...]:
    """The peers that serve the model of this id; case never counts."""
    return next((each.providers for each in there if each.id.lower() == model.lower()), ())


def elsewhere(there: Sequence[MeshModel], cards: Sequence[ModelCard]) -> list[MeshModel]:
    """Models that peers serve and this node does not hold."""
    here = {card.id.lower() for card in cards}
    return [model for model in there if model.id.lower() not in here]


def state_of(model: MeshModel) -> str:
    """How ready the readiest of its providers is: ``ready``, ``loading`` or ``unloaded``."""
    states = {provider.state for provider in model.providers}
    return next((state for state in BEST_FIRST if state in states), BEST_FIRST[-1])


def named(name: str, there: Sequence[MeshModel]) -> MeshModel | None:
    """The model of peers that ``name`` means: its id, or without quantisation the one that most serve, then by id."""
    base, label = split_name(name)
    whole = {name.strip().lower(), f"{base}:{label}"}
    found = [model for model in there if model.id.lower() in whole]
    if not found and label is None:
        found = [model for model in there if model.id.lower().rpartition(":")[0] == base]
    return min(found, key=lambda model: (-len(model.providers), model.id), default=None)


def _provided(providers: Sequence[ProviderView]) -> dict[str, Any]:
    """Prices are micro-credits per token."""
    listed = [
        {
            "peer": each.peer,
            "decode_tps": round(each.decode_tps, 2),
            "context_length": each.context_length,
            "state": each.state,
            "prices": {"input_uc": each.input_uc, "output_uc": each.output_uc},
        }
        for each in providers
    ]
    return {"providers": listed, "provider_count": len(listed)}


def _not_found(
    error: ModelNotFound, name: str, cards: Sequence[ModelCard], there: Sequence[MeshModel]
) -> ModelNotFound:
    """The library's error, with the nearest names of the mesh among those it hints at."""
    ids = [*(str(card.id) for card in cards), *(str(model.id) for model in there)]
    near = nearest(name, [*ids, *(id_.rpartition(":")[0] for id_ in ids)]) if there else []
    if not near:
        return error
    return ModelNotFound(
        f"no model {name[:96]!r}, here or in the mesh.", hint=f"Did you mean {' or '.join(near)}?", param="model"
    )
