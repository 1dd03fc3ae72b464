"""The body of ``POST /v1/completions`` ⇄ the domain. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from meshnode.api.constraint_schema import constraint
from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, text, unsupported
from meshnode.api.schema import COMMON_REFUSALS, Ask, Asker, CommonFields, StreamOptions, ask, common, stopping
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest
from meshnode.errors import InvalidField

DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's documented default of this endpoint (chat has none)."""
MOST_PROMPTS: Final = 128
MOST_CHOICES: Final = 256
"""Answers of one request, those that ``best_of`` discards among them."""
PROMPTS: Final = f"a string, an array of token ids, or an array of 1 to {MOST_PROMPTS} of these"

Prompt = str | tuple[int, ...]


class CompletionFields(CommonFields, kw_only=True):
    """The fields of a completion request that are honoured; ``prompt`` is checked by hand, for it has four shapes."""

    prompt: Any = None
    suffix: Annotated[str, text(1 << 24)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, integer(1, 128)] | None = None
    logprobs: Annotated[int, integer(0, 5)] | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {**COMMON_REFUSALS}


def parse_completion(body: bytes, asker: Asker) -> Ask:
    """A completion request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter.

    The answer's echo has ``prompts`` where it repeats them (a text, or token ids that are to be read back first), and
    ``n`` and ``best_of`` where more answers are made than are shown.
    """
    raw = parse_object(body)
    check_names(raw, CompletionFields, REFUSALS)
    fields = convert(raw, CompletionFields)
    if isinstance(raw.get("stream_options"), dict):
        check_names(raw["stream_options"], StreamOptions, {}, path="stream_options")
    prompts = _prompts(fields.prompt)
    n, best_of = fields.n or 1, _best_of(fields)
    if len(prompts) * best_of > MOST_CHOICES:
        what = f"{len(prompts)} prompts with {best_of} answers each are {len(prompts) * best_of} answers."
        raise InvalidField(what, hint=f"Allowed: {MOST_CHOICES} in one request.", param="prompt")
    most = DEFAULT_MAX_TOKENS if fields.max_tokens is None else fields.max_tokens
    asked = common(fields, asker) | {"stopping": stopping(fields, most), "constraint": constraint(fields)}
    asked |= {"prompt": prompts[0]} if len(prompts) == 1 else {"prompts": prompts}
    asked |= {"choices": best_of, "suffix": fields.suffix or None}
    asked |= {"top_logprobs": 0 if best_of > n and fields.logprobs is None else fields.logprobs}
    echo: dict[str, Any] = {"prompts": list(prompts)} if fields.echo else {}
    if fields.echo and fields.logprobs is not None:
        raise unsupported("echo", "Leave one of them out.", what=" beside logprobs, which a prompt has none of here,")
    if best_of > n:
        echo |= {"n": n, "best_of": best_of, "logprobs": fields.logprobs is not None}
    elif len(prompts) > 1:
        echo |= {"n": n}
    made = ask(fields, GenerationRequest(**asked))
    return made._replace(echo=echo) if echo else made


def _best_of(fields: CompletionFields) -> int:
    n = fields.n or 1
    best_of = n if fields.best_of is None else fields.best_of
    if best_of < n:
        raise invalid("best_of", best_of, f"at least n, which is {n}")
    if best_of > n and fields.stream:
        raise InvalidField(
            "best_of: which answer is best is known at the end only.", hint="Do not stream.", param="best_of"
        )
    return best_of


def _prompts(given: object) -> tuple[Prompt, ...]:
    if isinstance(given, list) and given and isinstance(given[0], str | list):
        if len(given) > MOST_PROMPTS:
            what = f"prompt has {len(given)} entries; at most {MOST_PROMPTS} are taken."
            raise InvalidField(what, hint="Send them in several requests.", param="prompt")
        if len(given) > 1:
            return tuple(_prompt(one, f"prompt[{index}]") for index, one in enumerate(given))
        given = given[0]
    return (_prompt(given, "prompt"),)


def _prompt(given: object, path: str) -> Prompt:
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise invalid(path, given, PROMPTS)
    for index, token in enumerate(given):
        if type(token) is not int or not 0 <= token < 2**31:
            raise invalid(f"{path}[{index}]", token, "a token id")
    return tuple(given)
