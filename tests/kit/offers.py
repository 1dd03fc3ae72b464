"""Offers and asks as tests need them: of one model, plain and cheap."""

from __future__ import annotations

import msgspec

from meshnode.domain import GenerationRequest
from meshnode.identity import Identity, network_tag
from meshnode.wire.body import Body, body_of, encode_body, sha256
from meshnode.wire.fields import Prices
from meshnode.wire.messages import AskTerms
from meshnode.wire.offer import ModelOffer, Offer

NETWORK = network_tag("public", None)
PRICES = Prices(10, 2, 80, 2000)


def model_offer(name: str = "a", **changes: object) -> ModelOffer:
    """A model that is ready."""
    offer = ModelOffer(
        id=name,
        weights=bytes(32),
        template=b"",
        quantisation="q4_1",
        context=8192,
        kv_type="f16",
        modalities=("text",),
        features=(),
        kinds=("generate",),
        prices=PRICES,
        decode_tps=100.0,
        first_token_ms=0.0,
        slots=16,
        free=16,
        queue=0,
        state="ready",
        parameters=135_000_000,
        family="llama",
        license="apache-2.0",
    )
    return msgspec.structs.replace(offer, **changes)


def offer(who: Identity, *models: ModelOffer, **changes: object) -> Offer:
    """What ``who`` offers, without a signature."""
    plain = Offer(
        network=NETWORK,
        peer=who.peer_id,
        ledger=who.ledger_public,
        issued_ms=1_700_000_000_000,
        ttl_s=120,
        addresses=(),
        models=models,
        privacy=("standard",),
        max_body=8 << 20,
        region="",
        software="test",
    )
    return msgspec.structs.replace(plain, **changes)


def terms(provider: Identity, request: GenerationRequest, **changes: object) -> AskTerms:
    """What an honest caller asks for ``request``."""
    body = encode_body(body_of(request))
    plain = AskTerms(
        network=NETWORK,
        provider=provider.peer_id,
        request=request.id,
        kind=request.kind.value,
        model=request.model,
        body_sha256=sha256(body),
        body_bytes=len(body),
        prompt_tokens=10,
        max_tokens=request.stopping.max_tokens or 0,
        features=(),
        privacy="standard",
        max_cost_uc=0,
        deadline_ms=600_000,
        prices=PRICES,
    )
    return msgspec.structs.replace(plain, **changes)


def changed(body: Body, path: str, value: object) -> Body:
    """A body with one field, ``holder.name`` or ``name``, set."""
    holder, _, name = path.rpartition(".")
    if not holder:
        return msgspec.structs.replace(body, **{name: value})
    inner = msgspec.structs.replace(getattr(body, holder), **{name: value})
    return msgspec.structs.replace(body, **{holder: inner})
