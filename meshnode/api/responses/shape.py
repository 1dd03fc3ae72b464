"""The object of a response around its items: what it repeats of the request, and how it fared. Pure.

Every field of OpenAI's object is always there, null where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshnode.api.errors import told
from meshnode.api.responses.schema import ResponseFields
from meshnode.api.responses.tooling import Offer
from meshnode.domain import GenerationRequest
from meshnode.errors import MeshnodeError, RateLimited, RequestError
from meshnode.events import Usage


def shown(
    fields: ResponseFields, request: GenerationRequest, offered: Offer, text: Mapping[str, Any]
) -> dict[str, Any]:
    """What the object repeats of the request, defaults filled in with what is really used."""
    sampling = request.sampling
    return {
        "background": fields.background is True or fields.async_mode is True,
        "frequency_penalty": sampling.frequency_penalty,
        "instructions": fields.instructions,
        "max_output_tokens": fields.max_output_tokens,
        "max_tool_calls": fields.max_tool_calls,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls,
        "presence_penalty": sampling.presence_penalty,
        "previous_response_id": fields.previous_response_id,
        "prompt": fields.prompt,
        "prompt_cache_key": fields.prompt_cache_key,
        "prompt_cache_retention": fields.prompt_cache_retention,
        "reasoning": {"effort": request.reasoning_effort, "summary": None},
        "safety_identifier": fields.safety_identifier,
        "service_tier": "default",
        "store": fields.store is not False,
        "temperature": sampling.temperature,
        "text": text,
        "tool_choice": fields.tool_choice or "auto",
        "tools": list(offered.shown),
        "top_logprobs": request.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "auto" if request.transforms else "disabled",
        "user": fields.user,
    }


def usage(counts: Usage) -> dict[str, Any]:
    """``usage`` in the words of Responses. What is written to a prefix cache costs nothing here and is not counted."""
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }


def fault(error: MeshnodeError) -> dict[str, Any]:
    """``error`` of a response that failed. Its codes are a closed list of OpenAI's; ours stands in ``type``."""
    code = "server_error"
    if isinstance(error, RateLimited):
        code = "rate_limit_exceeded"
    elif isinstance(error, RequestError):
        code = "invalid_prompt"
    return {"code": code, "message": told(error), "param": error.param, "type": error.code}
