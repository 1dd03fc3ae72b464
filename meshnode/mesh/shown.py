"""What the mesh looks like to its owner: offers, links and histories put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshnode.domain import ModelId, PeerId
from meshnode.mesh.charges import Charged
from meshnode.mesh.health import History
from meshnode.mesh.ladder import Rung
from meshnode.mesh.resolve import folded
from meshnode.mesh.view import MeshModel, PeerView, ProviderView, ReceiptView, RungView
from meshnode.net.transport import Link
from meshnode.wire.offer import ModelOffer, Offer


def mesh_models(offers: Iterable[Offer], *, but: PeerId) -> tuple[MeshModel, ...]:
    """Every model that peers other than ``but`` offer, by id, with its providers."""
    found: dict[str, list[tuple[Offer, ModelOffer]]] = {}
    for offer in offers:
        for model in offer.models if offer.peer != but else ():
            found.setdefault(folded(model.id), []).append((offer, model))
    return tuple(_mesh_model(ModelId(key), pairs) for key, pairs in sorted(found.items()))


def _mesh_model(model: ModelId, pairs: Sequence[tuple[Offer, ModelOffer]]) -> MeshModel:
    best = max((each for _, each in pairs), key=lambda each: each.context)
    return MeshModel(
        id=model,
        quantisation=best.quantisation,
        context_length=best.context,
        parameters=best.parameters,
        family=best.family,
        license=best.license,
        modalities=best.modalities,
        kinds=best.kinds,
        providers=tuple(_provider(offer, each) for offer, each in pairs),
    )


def _provider(offer: Offer, model: ModelOffer) -> ProviderView:
    return ProviderView(
        peer=PeerId(offer.peer),
        state=model.state,
        context_length=model.context,
        decode_tps=model.decode_tps,
        slots=model.slots,
        free=model.free,
        queue=model.queue,
        input_uc=model.prices.input_uc,
        output_uc=model.prices.output_uc,
    )


def receipt_view(charged: Charged, confirmed: int) -> ReceiptView:
    """One request's cost; ``confirmed`` is the newest receipt of its channel that the provider countersigned."""
    prices = charged.prices
    return ReceiptView(
        id=charged.id,
        request=charged.request,
        model=charged.model,
        peer=charged.peer,
        created=int(charged.created),
        state=_state(charged, confirmed),
        prompt_tokens=charged.prompt_tokens,
        cached_tokens=charged.cached_tokens,
        output_tokens=charged.output_tokens,
        cost_uc=charged.cost_uc,
        paid_uc=charged.paid_uc,
        input_uc=prices.input_uc,
        cached_uc=prices.cached_uc,
        output_uc=prices.output_uc,
        request_uc=prices.request_uc,
        channel=charged.chan,
        number=charged.seq,
    )


def _state(charged: Charged, confirmed: int) -> str:
    if not charged.closed:
        return "open"
    if charged.paid_uc < charged.cost_uc:
        return "owed"
    return "confirmed" if charged.seq <= confirmed else "signed"


def rung_view(rung: Rung) -> RungView:
    """One model of a plan."""
    return RungView(
        name=rung.name,
        model=rung.model,
        candidates=rung.plan.candidates,
        rejections=rung.plan.rejections,
        code="" if rung.error is None else rung.error.code,
        error="" if rung.error is None else str(rung.error),
    )


def peer_view(
    peer: PeerId,
    *,
    link: Link | None,
    offer: Offer | None,
    source: PeerId | None,
    age_s: float | None,
    history: History,
    avoided: str,
) -> PeerView:
    """One peer. ``source`` told us its offer, ``age_s`` ago."""
    return PeerView(
        peer=peer,
        connected=link is not None,
        address=link.address if link is not None else "",
        outbound=link is not None and link.outbound,
        rtt_s=link.rtt_s if link is not None else None,
        models=tuple(model.id for model in offer.models) if offer is not None else (),
        software=offer.software if offer is not None else "",
        source="" if source is None else "itself" if source == peer else source,
        offer_age_s=age_s,
        successes=history.successes,
        failures=history.failures,
        first_token_s=history.first_token_s,
        decode_tps=history.decode_tps,
        score=history.score,
        avoided=avoided,
        last_failure=history.last_failure,
    )
