"""Which fields of a body change nothing, which are refused, and why: the tables of all dialects, by struct. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from meshnode.api import chat_schema, completions_schema, rerank_schema, routing_schema, schema, tokens_schema
from meshnode.api.fields import Refusal
from meshnode.api.messages import reasons
from meshnode.api.messages import schema as messages_schema
from meshnode.api.openapi.bodies import Comparison, CountedResponse
from meshnode.api.responses import form as responses_form
from meshnode.api.responses import items as responses_items
from meshnode.api.responses import schema as responses_schema

_CACHES: Final = "every prompt's beginning is kept and found again by itself, marked or not"
_OF_A_SERVER: Final = "what a server added to its own answer"
_RESPONSES: Final[Mapping[str, str]] = {
    "max_tool_calls": "it bounds tools that a server runs; here the client runs them all",
    "client_metadata": "notes of the client's own",
    "user": schema.NO_EFFECT["user"],
    "reasoning.summary": "a thought is told whole, so there are no summaries",
    "reasoning.generate_summary": "a thought is told whole, so there are no summaries",
    "text.verbosity": schema.NO_EFFECT["verbosity"],
}
_HONOURED: Final[Mapping[type, frozenset[str]]] = {
    responses_schema.ResponseFields: frozenset({"metadata"}),
    messages_schema.PromptFields: frozenset(),
}
"""What a dialect does heed though another does not."""

IDLE: Final[Mapping[type, Mapping[str, str]]] = {
    schema.CommonFields: schema.NO_EFFECT,
    routing_schema.RoutingFields: schema.NO_EFFECT,
    messages_schema.PromptFields: reasons.NO_EFFECT,
    responses_schema.ResponseFields: _RESPONSES,
    rerank_schema.RerankFields: {"user": schema.NO_EFFECT["user"]},
    chat_schema.MessageFields: {"annotations": _OF_A_SERVER},
    responses_items.PartFields: {
        "annotations": _OF_A_SERVER,
        "logprobs": _OF_A_SERVER,
        "prompt_cache_breakpoint": _CACHES,
    },
    responses_form.TextFields: {"verbosity": schema.NO_EFFECT["verbosity"]},
    schema.StreamOptions: {"include_obfuscation": schema.NO_EFFECT["stream_options.include_obfuscation"]},
    routing_schema.ProviderFields: {"require_parameters": schema.NO_EFFECT["provider.require_parameters"]},
}
"""Fields that are taken and change nothing, with the reason; those inside other fields by their path."""

REFUSED: Final[Mapping[type, Mapping[str, Refusal]]] = {
    schema.CommonFields: schema.COMMON_REFUSALS,
    chat_schema.ChatFields: chat_schema.REFUSALS,
    completions_schema.CompletionFields: completions_schema.REFUSALS,
    tokens_schema.TextFields: tokens_schema.REFUSALS,
    messages_schema.PromptFields: {name: refusal for name, (refusal, _) in reasons.REFUSED.items()},
    responses_schema.ResponseFields: responses_schema.REFUSALS,
    CountedResponse: responses_schema.COUNT_REFUSALS,
    rerank_schema.RerankFields: rerank_schema.REFUSALS,
    routing_schema.ProviderFields: routing_schema.PROVIDER_REFUSALS,
    routing_schema.PriceFields: routing_schema.PRICE_REFUSALS,
}
"""Documented fields that are not served, by the struct of the body."""

REASONS: Final[Mapping[type, Mapping[str, str]]] = {
    messages_schema.PromptFields: {name: why for name, (_, why) in reasons.REFUSED.items()},
}
"""Why some of them are not."""

FOREIGN: Final[Mapping[type, frozenset[str]]] = {
    messages_schema.PromptFields: frozenset(reasons.REFUSED),
    responses_schema.ResponseFields: frozenset(responses_schema.OF_CHAT),
    Comparison: frozenset({"model", "fallback_models", "store", "async_mode"}),
}
"""Fields that a dialect's struct has from those of all dialects and that it does not take itself."""


def no_effect(kind: type) -> dict[str, str]:
    """Of a body's struct: which of its fields, and of those inside them, change nothing, and why."""
    found: dict[str, str] = {}
    taken = set(getattr(kind, "__struct_fields__", ()))
    for base in reversed(kind.__mro__):
        found |= IDLE.get(base, {})
        found = {name: why for name, why in found.items() if name not in _HONOURED.get(base, ())}
    own = taken - foreign(kind)
    return {name: why for name, why in found.items() if re.split(r"[.\[]", name)[0] in own}


def refusals(kind: type) -> dict[str, Refusal]:
    """Those of a body's struct and of the structs it is made from, but for what it takes itself."""
    taken = set(getattr(kind, "__struct_fields__", ())) - foreign(kind)
    found = {name: one for base in reversed(kind.__mro__) for name, one in REFUSED.get(base, {}).items()}
    return {name: one for name, one in found.items() if name not in taken}


def reason(kind: type, name: str) -> str:
    """Why a field is refused; empty where that needs no reason beyond its not being there."""
    return next((REASONS[base][name] for base in kind.__mro__ if name in REASONS.get(base, ())), "")


def foreign(kind: type) -> frozenset[str]:
    """Fields in the struct that are another dialect's."""
    return frozenset().union(*(FOREIGN.get(base, frozenset()) for base in kind.__mro__))
