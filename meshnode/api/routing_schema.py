"""The fields that say which model answers, who gives the answer and what it may cost ⇄ the domain. Pure.

Sources: OpenRouter's documentation for ``models`` and ``provider``; ``fallback_models``, ``privacy`` and ``max_cost``
are ours. Prices are micro-credits: per token in ``max_price``, of the whole request in ``max_cost``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, never, number, only, text
from meshnode.domain import ModelId, Preference, Privacy, Sort
from meshnode.errors import InvalidField

MOST_MODELS: Final = 8
"""Models that one request may name besides ``model``."""
MOST_PROVIDERS: Final = 64
SHORTEST_PREFIX: Final = 8
"""Characters of a peer id that may stand for it, at least."""
_MOST_UC: Final = 2**53

Models = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=256)]],
    msgspec.Meta(
        max_length=MOST_MODELS, description=f"an array of at most {MOST_MODELS} names, each of 1 to 256 characters"
    ),
]
Providers = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=128)]],
    msgspec.Meta(max_length=MOST_PROVIDERS, description=f"an array of at most {MOST_PROVIDERS} providers"),
]
Labels = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=32)]],
    msgspec.Meta(max_length=16, description="an array of at most 16 quantisations, such as q4_k_m or int4"),
]
PROVIDER: Final = f'"local", a peer id, or at least its first {SHORTEST_PREFIX} characters'


class RoutingFields(msgspec.Struct, kw_only=True):
    """What every dialect may say of its route."""

    model: Annotated[str, text(256)] | None = None
    models: Models | None = None
    fallback_models: Models | None = None
    provider: dict[str, Any] | None = None
    privacy: Literal["standard", "protected", "private-gateway", "confidential"] | None = None
    max_cost: Annotated[int, integer(0, _MOST_UC)] | None = None


class PriceFields(msgspec.Struct, kw_only=True):
    """``provider.max_price``."""

    prompt: Annotated[float, number(0, _MOST_UC)] | None = None
    completion: Annotated[float, number(0, _MOST_UC)] | None = None
    request: Annotated[float, number(0, _MOST_UC)] | None = None


class ProviderFields(msgspec.Struct, kw_only=True):
    """``provider``. Every peer that is asked takes all parameters: ``require_parameters`` is always so."""

    order: Providers | None = None
    only: Providers | None = None
    ignore: Providers | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    quantizations: Labels | None = None
    sort: Literal["price", "throughput", "latency"] | None = None
    max_price: dict[str, Any] | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None


PROVIDER_REFUSALS: Final[Mapping[str, Refusal]] = {
    "preferred_min_throughput": never(),
    "preferred_max_latency": never(),
    "enforce_distillable_text": only(False),
    "experimental": never(),
}
PRICE_REFUSALS: Final[Mapping[str, Refusal]] = {"image": never(), "audio": never()}


def routing(fields: RoutingFields) -> dict[str, Any]:
    """The arguments of :class:`meshnode.domain.GenerationRequest` that these fields make.

    Raises InvalidField, UnknownField or UnsupportedParameter.
    """
    if fields.models and fields.fallback_models:
        what = "models and fallback_models are one list: only one of them may be given."
        raise InvalidField(what, hint="Leave one out.", param="fallback_models")
    return {
        "model": ModelId(fields.model or ""),
        "fallbacks": tuple(map(ModelId, fields.models or fields.fallback_models or ())),
        "provider": preference(fields.provider),
        "privacy": Privacy(fields.privacy or Privacy.STANDARD),
        "max_cost_uc": fields.max_cost,
    }


def preference(sent: Mapping[str, object] | None) -> Preference:
    """The wishes in a ``provider``. Raises InvalidField, UnknownField or UnsupportedParameter."""
    if sent is None:
        return Preference()
    check_names(sent, ProviderFields, PROVIDER_REFUSALS, path="provider")
    fields = convert(sent, ProviderFields, path="provider")
    price = PriceFields()
    if fields.max_price is not None:
        check_names(fields.max_price, PriceFields, PRICE_REFUSALS, path="provider.max_price")
        price = convert(fields.max_price, PriceFields, path="provider.max_price")
    return Preference(
        order=_providers("order", fields.order),
        only=_providers("only", fields.only),
        ignore=_providers("ignore", fields.ignore),
        quantisations=tuple(fields.quantizations or ()),
        sort=None if fields.sort is None else Sort(fields.sort),
        fallbacks=fields.allow_fallbacks is not False,
        most_prompt_uc=price.prompt,
        most_output_uc=price.completion,
        most_request_uc=price.request,
        here_only=fields.data_collection == "deny" or fields.zdr is True,
    )


def _providers(name: str, sent: list[str] | None) -> tuple[str, ...]:
    for index, entry in enumerate(sent or ()):
        if entry != "local" and len(entry) < SHORTEST_PREFIX:
            raise invalid(f"provider.{name}[{index}]", entry, PROVIDER)
    return tuple(sent or ())
