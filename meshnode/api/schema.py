"""What chat and completions have in common: the fields that steer sampling, stopping and streaming. Pure.

Sources: OpenAI's API reference for chat completions and completions; llama.cpp's server for the samplers it adds
(``min_p`` to ``mirostat``), ``cache_prompt``, ``ignore_eos``; vLLM for ``repetition_penalty`` (``repeat_penalty`` over
all there is), ``min_tokens`` and ``stop_token_ids``.
Ranges are OpenAI's where it has the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from meshnode.api.constraint_schema import ConstraintFields
from meshnode.api.fields import Refusal, integer, invalid, never, number, only, text
from meshnode.api.render import NOTHING
from meshnode.api.routing_schema import routing
from meshnode.domain import CallerId, GenerationRequest, RequestId, Sampling, Stopping
from meshnode.errors import InvalidField

MAX_STOPS: Final = 16
"""Stop strings of one request; OpenAI takes 4, coding agents send more."""
MAX_STOP_CHARACTERS: Final = 256
MAX_BIASES: Final = 1024
_COUNT: Final = 2**31 - 1

StopList = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARACTERS)]], msgspec.Meta(max_length=MAX_STOPS)
]
Stop = Annotated[
    str | StopList,
    msgspec.Meta(
        description=f"a string, or an array of at most {MAX_STOPS}, each of 1 to {MAX_STOP_CHARACTERS} characters"
    ),
]
Biases = Annotated[
    dict[str, Annotated[float, number(-100, 100)]],
    msgspec.Meta(
        max_length=MAX_BIASES,
        description=f"an object of at most {MAX_BIASES} token ids, each with a number from -100 to 100",
    ),
]
TokenIds = Annotated[
    list[Annotated[int, integer(0, _COUNT)]],
    msgspec.Meta(max_length=256, description="an array of at most 256 token ids"),
]


Verbosity = Literal["low", "medium", "high"]
Strings = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARACTERS)]],
    msgspec.Meta(
        max_length=MAX_STOPS,
        description=f"an array of at most {MAX_STOPS} strings, each of 1 to {MAX_STOP_CHARACTERS} characters",
    ),
]
_NOT_AS_SENT: Final = frozenset({"top_k", "seed", "logit_bias", "dry_sequence_breakers", "bad_words"})
_AS_SENT: Final = tuple(name for name in Sampling.__struct_fields__ if name not in _NOT_AS_SENT)
"""Sampling fields that the domain takes as the client sent them."""


class StreamOptions(msgspec.Struct, kw_only=True):
    """``stream_options``; obfuscation pads events against traffic analysis and changes no answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CommonFields(ConstraintFields, kw_only=True):
    """Fields of both dialects that are honoured, then those that are accepted because they change no answer."""

    max_tokens: Annotated[int, integer(1, _COUNT)] | None = None
    temperature: Annotated[float, number(0, 2)] | None = None
    top_p: Annotated[float, number(0, 1)] | None = None
    top_k: Annotated[int, integer(-1, _COUNT)] | None = None
    min_p: Annotated[float, number(0, 1)] | None = None
    typical_p: Annotated[float, number(0, 1)] | None = None
    top_n_sigma: Annotated[float, number(-1, 1000)] | None = None
    xtc_probability: Annotated[float, number(0, 1)] | None = None
    xtc_threshold: Annotated[float, number(0, 1)] | None = None
    dry_multiplier: Annotated[float, number(0, 100)] | None = None
    dry_base: Annotated[float, number(1, 100)] | None = None
    dry_allowed_length: Annotated[int, integer(0, _COUNT)] | None = None
    dry_penalty_last_n: Annotated[int, integer(-1, _COUNT)] | None = None
    dry_sequence_breakers: Strings | None = None
    bad_words: Strings | None = None
    mirostat: Annotated[int, integer(0, 2)] | None = None
    mirostat_tau: Annotated[float, number(0, 1000)] | None = None
    mirostat_eta: Annotated[float, number(0, 1000)] | None = None
    repeat_penalty: Annotated[float, number(0.01, 10)] | None = None
    repeat_last_n: Annotated[int, integer(-1, _COUNT)] | None = None
    repetition_penalty: Annotated[float, number(0.01, 10)] | None = None
    frequency_penalty: Annotated[float, number(-2, 2)] | None = None
    presence_penalty: Annotated[float, number(-2, 2)] | None = None
    logit_bias: Biases | None = None
    seed: Annotated[int, integer(-(2**63), 2**63 - 1)] | None = None
    n: Annotated[int, integer(1, 128)] | None = None
    stop: Stop | None = None
    stop_token_ids: TokenIds | None = None
    min_tokens: Annotated[int, integer(0, _COUNT)] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_prompt: bool | None = None
    deadline_ms: Annotated[int, integer(1, 86_400_000)] | None = None
    session_id: Annotated[str, text(256)] | None = None
    store: bool | None = None
    async_mode: bool | None = None

    user: Annotated[str, text(256)] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Annotated[str, text(64)] | None = None
    safety_identifier: Annotated[str, text(256)] | None = None
    priority: int | None = None


COMMON_REFUSALS: Final[Mapping[str, Refusal]] = {
    "lora": only([]),
    "template": never(),
    "variables": never(),
    "transforms": only([]),
    "plugins": only([]),
}


NO_EFFECT: Final[Mapping[str, str]] = {
    "user": "who your own user is: nothing here is told apart by it",
    "metadata": "notes of your own: they are kept with an answer that is stored, and change nothing in it",
    "service_tier": "there is one tier; the order of service is the node's",
    "safety_identifier": "nobody here watches users",
    "priority": "vLLM's: the order of service is the node's, first come, first served",
    "prompt_cache_key": "prefixes are found by their tokens, without a key",
    "prompt_cache_retention": "prefixes stay as long as there is memory for them",
    "prompt_cache_options": "prefixes are found by their tokens, wherever they end",
    "prediction": "a shortcut of some providers: here the answer is computed as without it",
    "verbosity": "no local model has been taught it",
    "stream_options.include_obfuscation": "padding is for networks that others listen to",
    "provider.require_parameters": "always so: nobody is asked who does not take all parameters",
}
"""Fields that are accepted though they change no answer, and why they change none."""


class TemplateUse(NamedTuple):
    """A stored prompt template that a request is made from; version ``None`` is the newest."""

    id: str
    version: int | None
    variables: Mapping[str, str]


class Keep(NamedTuple):
    """What is to be done with a request beside answering it.

    ``store``: the request and its answer are kept, to be had by the answer's id. ``background``: the caller gets an id
    at once and fetches the answer later. ``template``: the prompt is a stored one.
    ``in_session``: the request's messages are those of its session, which is to remember the answer.
    """

    store: bool = False
    background: bool = False
    template: TemplateUse | None = None
    in_session: bool = False


class Ask(NamedTuple):
    """A parsed request: the domain's record, and how to render its answer. ``model`` is what the client called it.

    ``echo`` is what the answer repeats of the request, as JSON values; a kept answer keeps it.
    ``keep`` says what is to be done with the request beside answering it.
    """

    request: GenerationRequest
    stream: bool
    include_usage: bool
    model: str | None
    echo: Mapping[str, Any] = NOTHING
    keep: Keep = Keep()


class Asker(NamedTuple):
    """Who asks and under which id; not read from the body."""

    id: RequestId
    caller: CallerId
    headers: Mapping[str, str] = NOTHING
    """Those of the request, names in lower case."""


def common(fields: CommonFields, asker: Asker) -> dict[str, Any]:
    """The arguments of :class:`GenerationRequest` that both dialects share. Raises InvalidField."""
    return {
        "id": asker.id,
        "caller": asker.caller,
        **routing(fields),
        "choices": fields.n or 1,
        "sampling": sampling(fields),
        "stopping": stopping(fields, fields.max_tokens),
        "cache_prompt": fields.cache_prompt is not False,
        "deadline_s": None if fields.deadline_ms is None else fields.deadline_ms / 1000,
        "session": fields.session_id,
    }


def ask(fields: CommonFields, request: GenerationRequest) -> Ask:
    """The request with how it is to be answered."""
    options = fields.stream_options or StreamOptions()
    keep = Keep(store=fields.store is True, background=fields.async_mode is True)
    return Ask(request, fields.stream is True, options.include_usage is True, fields.model, keep=keep)


def sampling(fields: CommonFields) -> Sampling:
    """Sampling fields as they were sent, the rest at the domain's defaults. Raises InvalidField."""
    sent = {name: getattr(fields, name) for name in _AS_SENT if getattr(fields, name) is not None}
    if fields.top_k is not None:
        sent["top_k"] = max(fields.top_k, 0)
    if fields.repetition_penalty is not None:
        if fields.repeat_penalty is not None:
            what = "repeat_penalty and repetition_penalty are both given."
            raise InvalidField(what, hint="Send one of them.", param="repetition_penalty")
        sent = {"repeat_last_n": -1, **sent, "repeat_penalty": fields.repetition_penalty}
    if fields.seed is not None:
        sent["seed"] = fields.seed % 2**64
    for name in ("dry_sequence_breakers", "bad_words"):
        if (strings := getattr(fields, name)) is not None:
            sent[name] = tuple(strings)
    return Sampling(**sent, logit_bias=_biases(fields.logit_bias or {}))


def stopping(fields: CommonFields, max_tokens: int | None) -> Stopping:
    """When to stop. Raises InvalidField when ``min_tokens`` is above ``max_tokens``."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    if any(not 1 <= len(string) <= MAX_STOP_CHARACTERS for string in stop):
        raise invalid("stop", fields.stop, f"strings of 1 to {MAX_STOP_CHARACTERS} characters")
    if max_tokens is not None and (fields.min_tokens or 0) > max_tokens:
        raise invalid("min_tokens", fields.min_tokens, f"at most max_tokens, which is {max_tokens}")
    return Stopping(
        max_tokens=max_tokens,
        min_tokens=fields.min_tokens or 0,
        stop=stop,
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        ignore_eos=fields.ignore_eos is True,
    )


def _biases(biases: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for token, bias in biases.items():
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise InvalidField(
                "logit_bias: a name in it is no token id.",
                hint="Allowed: token ids as decimal numbers.",
                param="logit_bias",
            )
        pairs.append((int(token), bias))
    return tuple(pairs)
