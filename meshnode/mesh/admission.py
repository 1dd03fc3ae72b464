"""What a peer may ask of this node, and in which class: refused before its prompt travels, rebuilt when it has. Pure.

An ask is judged by its terms alone. A body is never passed on: a new request is built from the fields listed here, each
within its range, so that no engine knob, URL, path or field that nobody thought of reaches the engine (so came
CVE-2026-21869). What a provider refuses it refuses by name.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from meshnode.domain import (
    CallerId,
    GenerationRequest,
    Kind,
    ModelId,
    PeerId,
    Privacy,
    RequestId,
    ServiceClass,
)
from meshnode.errors import (
    BodyTooLarge,
    CapabilityUnavailable,
    Conflict,
    Draining,
    InvalidField,
    MalformedBody,
    ModelNotFound,
    Overloaded,
    ProtocolViolation,
    RateLimited,
    UnsupportedParameter,
)
from meshnode.wire.body import FROM_REQUEST, Body, sha256
from meshnode.wire.fields import Prices
from meshnode.wire.messages import AskTerms
from meshnode.wire.offer import ModelOffer, Offer

LONGEST_DEADLINE_S: Final = 3600.0
BUSY_RETRY_S: Final = 1.0
MOST_STOPS: Final = 16
MOST_STOP_CHARACTERS: Final = 256
MOST_IDS: Final = 256
MOST_BIASES: Final = 1024
MOST_BAD_WORDS: Final = 64
MOST_INPUTS: Final = 2048
MOST_TRANSFORMS: Final = 4
MOST_TEMPLATE_KWARGS: Final = 16 << 10
MOST_TOOLS: Final = 128
MOST_SCHEMA: Final = 1 << 20
"""Characters of a tool's parameters."""
MOST_FORM: Final = 1 << 18
"""Characters of a schema or a grammar that the answer must keep to."""
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._:/+=-]")
_COUNT: Final = 2**31 - 1
_SEED: Final = 2**64 - 1

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "sampling.temperature": (0, 2),
    "sampling.top_k": (-1, _COUNT),
    "sampling.top_p": (0, 1),
    "sampling.min_p": (0, 1),
    "sampling.typical_p": (0, 1),
    "sampling.top_n_sigma": (-1, 1000),
    "sampling.xtc_probability": (0, 1),
    "sampling.xtc_threshold": (0, 1),
    "sampling.repeat_penalty": (0.01, 10),
    "sampling.repeat_last_n": (-1, _COUNT),
    "sampling.frequency_penalty": (-2, 2),
    "sampling.presence_penalty": (-2, 2),
    "sampling.dry_multiplier": (0, 100),
    "sampling.dry_base": (1, 100),
    "sampling.dry_allowed_length": (0, _COUNT),
    "sampling.dry_penalty_last_n": (-1, _COUNT),
    "sampling.mirostat": (0, 2),
    "sampling.mirostat_tau": (0, 1000),
    "sampling.mirostat_eta": (0, 1000),
    "sampling.seed": (0, _SEED),
    "stopping.max_tokens": (1, _COUNT),
    "stopping.min_tokens": (0, _COUNT),
    "choices": (1, 128),
    "top_logprobs": (0, 20),
    "dimensions": (1, 65_536),
}
"""What numbers of a body may be; the local API's ranges where it has the field."""


class Limits(msgspec.Struct, frozen=True):
    """How many requests of strangers run at a time: of one peer, and of all."""

    per_peer: int = 8
    requests: int = 32


class Places:
    """Who holds how many places. One is taken when an ask is accepted, and given back when its request is over."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: Counter[PeerId] = Counter()

    @property
    def held(self) -> int:
        """Places taken, all peers together."""
        return self._held.total()

    @property
    def per_peer(self) -> int:
        """Places that one peer may have."""
        return self._limits.per_peer

    def take(self, peer: PeerId) -> None:
        """Take a place. Raises RateLimited (this peer has its share) or Overloaded (all are taken)."""
        if self._held[peer] >= self._limits.per_peer:
            raise RateLimited(
                f"{self._held[peer]} requests of yours are under way here, which is a peer's share.",
                retry_after_s=BUSY_RETRY_S,
            )
        if self.held >= self._limits.requests:
            raise Overloaded(f"{self.held} requests of peers are under way here.", retry_after_s=BUSY_RETRY_S)
        self._held[peer] += 1

    def give_back(self, peer: PeerId) -> None:
        """The request is over."""
        self._held[peer] -= 1
        if self._held[peer] <= 0:
            del self._held[peer]


def judge(terms: AskTerms, offer: Offer) -> ModelOffer:
    """The model of ``offer`` (this node's, as it stands now) that an ask is for. Raises what refuses it, by name."""
    if terms.network != offer.network or terms.provider != offer.peer:
        raise ProtocolViolation("an ask is for another network or peer.")
    if not offer.models:
        raise Draining("this node serves nothing now.", retry_after_s=BUSY_RETRY_S)
    model = next((model for model in offer.models if model.id == terms.model), None)
    if model is None:
        raise ModelNotFound(f"{terms.model!r:.80} is not served here.", param="model")
    if terms.privacy not in offer.privacy:
        known = terms.privacy in [privacy.value for privacy in Privacy]
        word = f"privacy class {terms.privacy}" if known else "an unknown privacy class"
        raise CapabilityUnavailable(f"{word} is not served here, only {', '.join(offer.privacy)}.", param="privacy")
    if terms.kind not in model.kinds:
        raise CapabilityUnavailable(f"{model.id} serves {', '.join(model.kinds)} here, not {terms.kind[:16]}.")
    missing = sorted(set(terms.features) - set(model.features))
    if missing:
        raise CapabilityUnavailable(f"{model.id} has no {missing[0]} here.")
    _judge_amounts(terms, offer, model)
    return model


def _judge_amounts(terms: AskTerms, offer: Offer, model: ModelOffer) -> None:
    if terms.body_bytes > offer.max_body:
        raise BodyTooLarge(f"a request of {terms.body_bytes} bytes; {offer.max_body} are taken here.")
    if not covers(terms.prices, model.prices):
        raise Conflict("the prices asked for are below those offered now.", hint="Fetch the offer again.")
    if terms.max_cost_uc and terms.max_cost_uc < model.prices.request_uc:
        raise Conflict(f"a request costs at least {model.prices.request_uc} µc here.", param="max_cost")
    if terms.deadline_ms == 0:
        raise InvalidField("the deadline has passed already.", param="deadline_ms")


def covers(paid: Prices, offered: Prices) -> bool:
    """Whether no price agreed to is below what is offered."""
    return all(mine >= theirs for mine, theirs in zip(_amounts(paid), _amounts(offered), strict=True))


def _amounts(prices: Prices) -> tuple[int, ...]:
    return (prices.input_uc, prices.cached_uc, prices.output_uc, prices.request_uc)


def rebuild(body: Body, terms: AskTerms, *, peer: PeerId, service_class: ServiceClass) -> GenerationRequest:
    """The request for this node's engine. Raises InvalidField or UnsupportedParameter, which name the field.

    The caller is the peer, whatever it says; what it may not choose is at its default.
    """
    _check_ranges(body)
    _check_lists(body)
    _check_texts(body)
    _check_form(body)
    _check_inputs(body, Kind(terms.kind))
    if terms.max_tokens and (body.stopping.max_tokens is None or body.stopping.max_tokens > terms.max_tokens):
        raise InvalidField("the request wants more tokens than its terms say.", param="max_tokens")
    if terms.max_tokens == 0 and body.stopping.max_tokens is not None:
        raise InvalidField("the request's terms leave out its bound of tokens.", param="max_tokens")
    return GenerationRequest(
        **{name: getattr(body, name) for name in FROM_REQUEST},
        id=RequestId(f"{peer[-8:]}/{_STRANGE.sub('?', terms.request[:64])}"),
        model=ModelId(terms.model),
        kind=Kind(terms.kind),
        caller=CallerId(f"peer:{peer}"),
        service_class=service_class,
        privacy=Privacy(terms.privacy),
        deadline_s=min(terms.deadline_ms / 1000, LONGEST_DEADLINE_S),
        max_cost_uc=terms.max_cost_uc or None,
    )


def whole(parts: bytes, terms: AskTerms) -> bytes:
    """The body's bytes, which must be those the terms commit to. Raises ProtocolViolation."""
    if len(parts) != terms.body_bytes or sha256(parts) != terms.body_sha256:
        raise ProtocolViolation("a request is not the one that was asked for.")
    return parts


def _check_ranges(body: Body) -> None:
    for path, (low, high) in RANGES.items():
        holder, _, name = path.rpartition(".")
        value = getattr(getattr(body, holder) if holder else body, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidField(f"{name} is {value!r:.30}; allowed: {low:g} to {high:g}.", param=name)


def _check_lists(body: Body) -> None:
    stopping, sampling = body.stopping, body.sampling
    ids = [*stopping.stop_token_ids, *(token for token, _ in sampling.logit_bias)]
    if isinstance(body.prompt, tuple):
        ids += body.prompt
    if any(not 0 <= token <= _COUNT for token in ids):
        raise InvalidField("a token id is out of range.", param="prompt")
    if any(not -100 <= bias <= 100 for _, bias in sampling.logit_bias):  # NaN is in no range
        raise InvalidField("a bias is out of range; allowed: -100 to 100.", param="logit_bias")
    if len(stopping.stop) > MOST_STOPS or len(stopping.stop_token_ids) > MOST_IDS:
        raise InvalidField(f"there are over {MOST_STOPS} stop strings or {MOST_IDS} stop tokens.", param="stop")
    if len(sampling.logit_bias) > MOST_BIASES or len(sampling.dry_sequence_breakers) > MOST_STOPS:
        raise InvalidField(f"there are over {MOST_BIASES} biases or {MOST_STOPS} breakers.", param="logit_bias")
    if len(sampling.bad_words) > MOST_BAD_WORDS:
        raise InvalidField(f"there are over {MOST_BAD_WORDS} bad words.", param="bad_words")


def _check_form(body: Body) -> None:
    if len(body.tools) > MOST_TOOLS or any(len(tool.parameters) > MOST_SCHEMA for tool in body.tools):
        hint = f"Allowed: {MOST_TOOLS} tools, each with a schema of {MOST_SCHEMA} characters."
        raise InvalidField("there are too many tools, or one's schema is too long.", hint=hint, param="tools")
    if body.constraint is not None and len(body.constraint.source) > MOST_FORM:
        hint = f"Allowed: {MOST_FORM} characters."
        raise InvalidField("the schema or grammar of the answer is too long.", hint=hint, param="response_format")


def _check_inputs(body: Body, kind: Kind) -> None:
    embeds, ranks = kind is Kind.EMBED, kind is Kind.RERANK
    beside = (embeds or ranks) and (body.messages or body.prompt is not None)
    if embeds != bool(body.inputs) or (embeds and beside):
        raise InvalidField("inputs are for an embedding, which has nothing beside them.", param="inputs")
    if not ranks == bool(body.query) == bool(body.documents) or (ranks and beside):
        raise InvalidField("a query and documents are for a ranking, which has nothing beside them.", param="query")
    if body.dimensions is not None and not embeds:
        raise InvalidField("dimensions are for an embedding.", param="dimensions")
    given = (*body.inputs, *body.documents)
    if len(given) > MOST_INPUTS or not all(given):
        raise InvalidField(f"an input or a document is empty, or there are over {MOST_INPUTS}.", param="inputs")
    if any(not 0 <= token <= _COUNT for one in body.inputs if isinstance(one, tuple) for token in one):
        raise InvalidField("a token id is out of range.", param="inputs")


def _check_texts(body: Body) -> None:
    strings = (*body.stopping.stop, *body.sampling.dry_sequence_breakers)
    if any(not 1 <= len(text) <= MOST_STOP_CHARACTERS for text in strings):
        raise InvalidField(f"a stop string has not 1 to {MOST_STOP_CHARACTERS} characters.", param="stop")
    if any(not 1 <= len(word) <= MOST_STOP_CHARACTERS for word in body.sampling.bad_words):
        raise InvalidField(f"a bad word has not 1 to {MOST_STOP_CHARACTERS} characters.", param="bad_words")
    for message in body.messages:
        if any(hasattr(part, "url") or hasattr(part, "data") for part in message.parts):
            raise UnsupportedParameter("images, audio and files are not served here.", param="messages")
    if len(body.transforms) > MOST_TRANSFORMS or any(len(name) > 32 for name in body.transforms):
        raise InvalidField("there are too many transforms.", param="transforms")
    if len(body.template_kwargs) > MOST_TEMPLATE_KWARGS or len(body.reasoning_effort or "") > 32:
        raise InvalidField("the template's arguments are too long.", param="chat_template_kwargs")
    try:
        arguments = json.loads(body.template_kwargs)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise MalformedBody("the template's arguments are no JSON object.", param="chat_template_kwargs")
