"""The body of ``POST /v1/completions`` ⇄ the domain. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from meshnode.api.constraint_schema import constraint
from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, only, unsupported
from meshnode.api.schema import COMMON_REFUSALS, Ask, Asker, CommonFields, StreamOptions, ask, common, stopping
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest

DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's documented default of this endpoint (chat has none)."""
PROMPTS: Final = "a string, an array of one string, or an array of token ids"


class CompletionFields(CommonFields, kw_only=True):
    """The fields of a completion request that are honoured; ``prompt`` is checked by hand, for it has four shapes."""

    prompt: Any = None
    logprobs: Annotated[int, integer(0, 20)] | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {
    **COMMON_REFUSALS,
    "best_of": only(1),
    "echo": only(False),
    "suffix": only(""),
}


def parse_completion(body: bytes, asker: Asker) -> Ask:
    """A completion request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    raw = parse_object(body)
    check_names(raw, CompletionFields, REFUSALS)
    fields = convert(raw, CompletionFields)
    if isinstance(raw.get("stream_options"), dict):
        check_names(raw["stream_options"], StreamOptions, {}, path="stream_options")
    most = DEFAULT_MAX_TOKENS if fields.max_tokens is None else fields.max_tokens
    shared = common(fields, asker) | {"stopping": stopping(fields, most)}
    shared |= {"constraint": constraint(fields), "top_logprobs": fields.logprobs}
    return ask(fields, GenerationRequest(**shared, prompt=_prompt(fields.prompt)))


def _prompt(prompt: object) -> str | tuple[int, ...]:
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise unsupported("prompt", "Send one request for each.", what=" with several prompts")
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not prompt:
        raise invalid("prompt", prompt, PROMPTS)
    for index, token in enumerate(prompt):
        if type(token) is not int or not 0 <= token < 2**31:
            raise invalid(f"prompt[{index}]", token, "a token id")
    return tuple(prompt)
