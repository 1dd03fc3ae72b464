"""The fields of ``POST /v1/responses``, honoured, without effect, and refused. Pure.

Source: OpenAI's API reference for Responses and the types of its Python SDK; Codex for ``client_metadata``; the
samplers and our own fields are those of chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import Refusal, integer, never, only, text, without_effect
from meshnode.api.responses.tooling import Tools
from meshnode.api.schema import COMMON_REFUSALS, CommonFields
from meshnode.api.schema import NO_EFFECT as COMMON_NO_EFFECT
from meshnode.api.template_schema import Variables
from meshnode.api.transforms import Plugins, Transforms

MOST_TOP_LOGPROBS: Final = 20
MOST_ITEMS: Final = 65536
_COUNT: Final = 2**31 - 1
INCLUDABLE: Final = (
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
"""What ``include`` may name. But for the first two it is about tools and images that do not exist here."""

Items = Annotated[
    list[dict[str, Any]], msgspec.Meta(max_length=MOST_ITEMS, description=f"an array of at most {MOST_ITEMS} items")
]
Metadata = Annotated[
    dict[
        Annotated[str, msgspec.Meta(max_length=64)],
        Annotated[str, msgspec.Meta(max_length=512)],
    ],
    msgspec.Meta(
        max_length=16,
        description="an object of at most 16 strings of at most 512 characters, under names of at most 64",
    ),
]
Include = Annotated[
    list[Literal[INCLUDABLE]],  # type: ignore[valid-type]  # a literal of a tuple
    msgspec.Meta(max_length=64, description=f"an array of {', '.join(INCLUDABLE)}"),
]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningFields(msgspec.Struct, kw_only=True):
    """``reasoning``. A thought is told whole, so there are no summaries; ``mode`` and ``context`` are OpenAI's own."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: str | None = None
    mode: str | None = None


class PromptFields(msgspec.Struct, kw_only=True):
    """``prompt``: a stored template."""

    id: Annotated[str, text(64)]
    version: Annotated[str, text(32)] | None = None
    variables: Annotated[dict[str, Any], msgspec.Meta(max_length=256)] | None = None


class ResponseFields(CommonFields, kw_only=True):
    """The fields of a Responses request that are honoured, then those that change no answer."""

    input: str | Items | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, integer(1, _COUNT)] | None = None
    previous_response_id: Annotated[str, text(128)] | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, integer(0, MOST_TOP_LOGPROBS)] | None = None
    include: Include | None = None
    store: bool | None = None
    background: bool | None = None
    template: Annotated[str, text(128)] | None = None
    variables: Variables | None = None
    truncation: Literal["auto", "disabled"] | None = None
    transforms: Transforms | None = None
    plugins: Plugins | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: Metadata | None = None

    max_tool_calls: Annotated[int, integer(1, _COUNT)] | None = None
    prompt_cache_key: Annotated[str, text(256)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    client_metadata: dict[str, Any] | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {
    **COMMON_REFUSALS,
    "conversation": never(),
    "context_management": only([]),
    "moderation": never(),
    "access_programs": without_effect(),
    "image": without_effect(),
}
COUNT_REFUSALS: Final[Mapping[str, Refusal]] = {**REFUSALS, "personality": without_effect()}
NO_EFFECT: Final[Mapping[str, str]] = {
    **COMMON_NO_EFFECT,
    "metadata": "notes of your own: the response repeats them",
    "max_tool_calls": "it counts calls of OpenAI's built-in tools, of which there are none here",
    "client_metadata": "what a coding agent says of itself",
    "reasoning.summary": "a thought is told whole, so there is nothing to sum up",
    "reasoning.generate_summary": "the older name of summary",
    "reasoning.mode": "OpenAI's models alone have modes",
    "reasoning.context": "every thought that is sent back is shown to the model, as far as its template takes thoughts",
    "text.verbosity": "no local model has been taught it",
    "access_programs": "OpenAI's",
    "image": "it is about images, which no answer here has",
    "personality": "OpenAI's models alone have presets of style",
    "include": "beside reasoning.encrypted_content and message.output_text.logprobs: about tools that are not here",
    "tools": "those that OpenAI runs itself (web_search, mcp …) are not offered to the model, nor repeated",
}
"""Fields, or uses of them, that are accepted though they change no answer, and why they change none."""
OF_CHAT: Final[Mapping[str, str]] = {
    "max_tokens": "Send max_output_tokens.",
    "max_completion_tokens": "Send max_output_tokens.",
    "messages": "Send them as input.",
    "response_format": "Send text.format.",
    "reasoning_effort": "Send reasoning.effort.",
    "verbosity": "Send text.verbosity.",
    "logprobs": "Send include with message.output_text.logprobs.",
    "n": "A response is one answer.",
}
"""Fields of chat that Responses has under another name or not at all, and what is said to them."""
