"""Why some documented fields of a messages request are without effect or refused, for the parser and the docs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnode.api.fields import Refusal, never, only

NO_EFFECT: Final[Mapping[str, str]] = {
    "cache_control": "every prompt's prefix is kept and found again by itself, marked or not",
    "context_management": "the conversation is taken as it was sent; one too long is refused with both numbers",
    "diagnostics": "no earlier prompt is kept to be compared with",
    "metadata": "nothing is told to anybody about the client's users",
    "service_tier": "there is one tier; who goes first is a matter of the key and of credits",
    "speed": "each model has one speed here; the model modes fast and best choose between models",
    "user_profile_id": "nothing is told to anybody about the client's users",
    "workspace_id": "a node has no workspaces",
    "betas": "what this node serves needs no flag",
    "anthropic_version": "there is one version of the dialect here",
    "output_config.task_budget": "no model here has been taught to plan with a budget",
    "tools[].cache_control": "as cache_control",
    "tools[].defer_loading": "there is no search among tools, so all of them are offered at once",
    "tools[].eager_input_streaming": "a call's input is always streamed as it is written",
    "messages[].content[].citations": "it tells where a text is from, which the text does not change by",
    "messages[].content[].redacted_thinking": "it is sealed for Anthropic's servers, so that nobody here can read it",
}
"""Fields that are accepted and change no answer."""

REFUSED: Final[Mapping[str, tuple[Refusal, str]]] = {
    "container": (never(), "no code is run here"),
    "mcp_servers": (only([]), "no other server is called on a client's behalf"),
    "inference_geo": (only("global"), "where a peer is cannot be vouched for"),
    "thread": (never(), "conversations are not kept under Anthropic's names; session_id is ours"),
    "compaction": (never(), "a conversation is not summarised behind its client's back"),
    "fallbacks": (only([]), "models to fall back to are our models or fallback_models"),
    "fallback_credit_token": (never(), "it is for Anthropic's billing"),
    "billing_policy": (never(), "it is for Anthropic's billing"),
    "n": (only(1), "a message is one answer"),
    "stop": (never(), "it is called stop_sequences here"),
    "stream_options": (never(), "usage is always told"),
    "user": (never(), "it is called metadata.user_id here"),
    "safety_identifier": (never(), "it is called metadata.user_id here"),
    "max_completion_tokens": (never(), "it is called max_tokens here"),
    "response_format": (never(), "it is called output_config.format here"),
    "reasoning_effort": (never(), "it is called output_config.effort here"),
}
"""Documented fields of this dialect or of others that cannot be honoured, but for values that change nothing."""
