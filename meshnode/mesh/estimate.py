"""What a request needs, and what each who could answer it would take: time, tokens and credits. Pure.

Estimates, for choosing: nobody is billed by them. Times in milliseconds, speeds in tokens per second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshnode.domain import (
    AudioPart,
    Constraint,
    ConstraintKind,
    FilePart,
    GenerationRequest,
    ImagePart,
    Kind,
    Privacy,
    ReasoningPart,
    Record,
    RefusalPart,
    TextPart,
    ToolMode,
)
from meshnode.engine.slot import ModelState
from meshnode.mesh.health import History
from meshnode.wire.fields import Prices
from meshnode.wire.offer import ModelOffer

WITHOUT_OUTPUT: Final = frozenset({Kind.EMBED, Kind.RERANK, Kind.COUNT})
"""What is asked of a model that takes a prompt and no answer."""
OUTPUT_TOKENS: Final = 256
"""An answer's length where the request sets no bound."""
FEATURES: Final = ("grammar", "logprobs", "schema", "tools")
"""What a request may need of an engine besides text, all of which ours has with every model that generates."""
_CHARACTERS_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4
_PROMPT_MARGIN: Final = 1.25
_TEMPLATE_MARGIN: Final = 32
_DEFAULT_TPS: Final = 20.0
_DEFAULT_PREFILL_TPS: Final = 200.0
_DEFAULT_FIRST_TOKEN_MS: Final = 500.0
_DEFAULT_RTT_MS: Final = 50.0
_LOAD_MS: Final = 10_000.0
"""What bringing a model into memory takes, where nothing better is known."""
_WORST_SCORE: Final = 0.05
_MEDIA: Final[dict[type, str]] = {ImagePart: "image", AudioPart: "audio", FilePart: "file"}


class Needs(Record, frozen=True, kw_only=True):
    """What a request asks of whoever answers it.

    ``prompt`` and ``output`` are tokens, of an embedding those of all inputs and none; ``longest`` are those that must
    fit into the context together, ``bounded`` is whether the request itself bounds the output; ``body`` is bytes of it
    on the wire, at least; ``modalities`` are those besides text. ``deadline_s`` is what is left. ``shortens``: the
    prompt may be cut down to a context that is too short for it.
    """

    kind: Kind
    privacy: Privacy
    modalities: frozenset[str]
    features: frozenset[str]
    prompt: int
    longest: int
    output: int
    bounded: bool
    body: int
    max_cost_uc: int | None
    deadline_s: float | None
    shortens: bool = False

    @property
    def least_context(self) -> int:
        """Tokens a model's context must hold for the prompt, as far as it can be estimated, and one token more."""
        return 1 if self.shortens else self.longest + (self.kind not in WITHOUT_OUTPUT)

    @property
    def full_context(self) -> int:
        """Tokens it holds where the answer may grow as long as the request allows; with less it ends sooner."""
        return self.longest + (self.output if self.bounded else 1)


def needs(request: GenerationRequest) -> Needs:
    """What a request needs."""
    most = 0 if request.kind in WITHOUT_OUTPUT else request.stopping.max_tokens
    size = sum(map(len, _texts(request)))
    if isinstance(request.prompt, tuple):
        prompt = len(request.prompt)
        size += 2 * prompt
    else:
        prompt = size // _CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE * len(request.messages)
    inputs = [len(one) if isinstance(one, tuple) else len(one) // _CHARACTERS_PER_TOKEN for one in request.inputs]
    inputs += [(len(request.query) + len(one)) // _CHARACTERS_PER_TOKEN for one in request.documents]
    parts = (part for message in request.messages for part in message.parts)
    return Needs(
        kind=request.kind,
        privacy=request.privacy,
        modalities=frozenset(_MEDIA[type(part)] for part in parts if type(part) in _MEDIA),
        features=frozenset(_features(request)),
        prompt=max(1, prompt + sum(inputs)),
        longest=max(1, prompt, *inputs),
        output=OUTPUT_TOKENS if most is None else most,
        bounded=most is not None,
        body=size + sum(map(len, (*_media(request), *request.inputs, *request.documents))),
        max_cost_uc=request.max_cost_uc,
        deadline_s=request.deadline_s,
        shortens=bool(request.transforms),
    )


def cost_uc(prices: Prices, *, prompt: int, output: int) -> int:
    """Micro-credits for so many tokens, nothing of it cached."""
    return max(prices.request_uc, prompt * prices.input_uc + output * prices.output_uc)


def affordable(need: Needs, prices: Prices) -> int | None:
    """Tokens of an answer that the request's bound on its cost pays for; None where it sets none.

    The prompt is taken to be somewhat longer than estimated, for an answer that ends early costs less than was allowed.
    """
    if need.max_cost_uc is None or not prices.output_uc:
        return None
    prompt = need.prompt * _PROMPT_MARGIN + _TEMPLATE_MARGIN
    return max(1, int((need.max_cost_uc - prompt * prices.input_uc) // prices.output_uc))


class Expected(Record, frozen=True):
    """Milliseconds: until somebody has a place free, from then to the first token, from then to the last."""

    queue_ms: float
    first_ms: float
    rest_ms: float

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.queue_ms + self.first_ms + self.rest_ms


def of_peer(need: Needs, model: ModelOffer, history: History, rtt_s: float | None, connected: bool) -> Expected:
    """What a peer would take, by its offer, corrected by how it did; a peer that failed counts as slower."""
    rate = history.decode_tps or model.decode_tps or _DEFAULT_TPS
    rest = 1000 * need.output / max(rate, 0.01)
    if history.first_token_s is not None:
        first = 1000 * history.first_token_s
    else:
        first = model.first_token_ms or _DEFAULT_FIRST_TOKEN_MS
    rtt = _DEFAULT_RTT_MS if rtt_s is None else 1000 * rtt_s
    road = rtt if connected else 4 * rtt  # a dial and a handshake come first
    load = 0.0 if model.state == "ready" else _LOAD_MS
    queue = _queue_ms(model.queue, model.free, model.slots, first + rest)
    risk = 1 / max(history.score, _WORST_SCORE)
    return Expected(queue * risk, (load + first + road) * risk, rest * risk)


def of_local(need: Needs, state: ModelState) -> Expected:
    """What this node's own engine would take."""
    info, gauge = state.info, state.gauge
    rate = (info.decode_tps if info else 0.0) or _DEFAULT_TPS
    prefill = (info.prefill_tps if info else 0.0) or _DEFAULT_PREFILL_TPS
    slots = info.n_seq_max if info else 1
    first, rest = 1000 * need.prompt / prefill, 1000 * need.output / rate
    load = 0.0 if state.state == "ready" else _LOAD_MS * (1 - state.progress)
    return Expected(_queue_ms(gauge.waiting, slots - gauge.running, slots, first + rest), load + first, rest)


def busyness(model: ModelOffer) -> float:
    """How full a peer says that it is: requests at hand for each that it takes at a time."""
    return (model.slots - model.free + model.queue) / max(1, model.slots)


def _queue_ms(waiting: int, free: int, slots: int, each_ms: float) -> float:
    """When one more would get a place, if everybody takes ``each_ms``."""
    if free > waiting:
        return 0.0
    return (waiting - max(0, free) + 1) * each_ms / max(1, slots)


def _texts(request: GenerationRequest) -> Iterator[str]:
    if isinstance(request.prompt, str):
        yield request.prompt
    if request.query:
        yield request.query
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, TextPart | ReasoningPart | RefusalPart):
                yield part.text
        yield from (call.arguments for call in message.tool_calls)
    for tool in request.tools:
        yield tool.parameters
        yield tool.description


def _media(request: GenerationRequest) -> Iterator[str | bytes]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ImagePart):
                yield part.url
            elif isinstance(part, AudioPart | FilePart):
                yield part.data


def features(request: GenerationRequest) -> tuple[str, ...]:
    """Which of :data:`FEATURES` a request needs, in their order."""
    return tuple(sorted(_features(request)))


def _features(request: GenerationRequest) -> Iterator[str]:
    if request.tools and request.tool_choice.mode is not ToolMode.NONE:
        yield "tools"
    if request.constraint is not None:
        yield _constraint_feature(request.constraint)
    if request.top_logprobs is not None:
        yield "logprobs"


def _constraint_feature(constraint: Constraint) -> str:
    schema = constraint.kind in (ConstraintKind.JSON_OBJECT, ConstraintKind.JSON_SCHEMA)
    return "schema" if schema else "grammar"
