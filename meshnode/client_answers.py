"""What a node tells :mod:`meshnode.client` of requests, prompts and its mesh, as records."""

from __future__ import annotations

from typing import Any

from meshnode.client_records import Fetching
from meshnode.domain import ModelId, PeerId, Record


class LoadingModel(Record, frozen=True, omit_defaults=False):
    """A model on its way into memory; ``progress`` in 0..1."""

    id: ModelId
    progress: float = 0.0


class FailedModel(Record, frozen=True, omit_defaults=False):
    """A model that cannot be loaded, and why."""

    id: ModelId
    reason: str = ""


class Health(Record, frozen=True, omit_defaults=False):
    """Whether a model can answer: ``ok``, ``loading``, ``failed`` or ``stopping``."""

    status: str
    loading: tuple[LoadingModel, ...] = ()
    fetching: tuple[Fetching, ...] = ()
    failed: tuple[FailedModel, ...] = ()


class Piece(Record, frozen=True, omit_defaults=False):
    """A token and its text, or its bytes where it is only a part of a character."""

    id: int
    piece: str | tuple[int, ...]


class TemplateHead(Record, frozen=True, omit_defaults=False):
    """A version of a stored prompt; ``created_at`` in seconds since 1970, ``variables`` are its places to fill."""

    id: str
    version: int
    created_at: int = 0
    variables: tuple[str, ...] = ()


class Turn(Record, frozen=True, omit_defaults=False):
    """One message of a stored prompt."""

    role: str
    content: str


class Template(TemplateHead, frozen=True, omit_defaults=False):
    """A version of a stored prompt with its text, places as ``{{name}}``."""

    messages: tuple[Turn, ...] = ()


class Receipt(Record, frozen=True, omit_defaults=False):
    """What one request to a peer cost. Costs and prices in micro-credits, prices per token.

    ``state``: ``open`` while more may come, ``owed`` until a receipt pays for all of it, ``signed`` by this node, then
    ``confirmed`` by the provider. ``channel`` and ``number`` are those of that receipt, which is of a whole channel.
    """

    id: str
    request: str
    model: ModelId
    peer: PeerId
    created: int = 0
    state: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_uc: int = 0
    paid_uc: int = 0
    input_uc: int = 0
    cached_uc: int = 0
    output_uc: int = 0
    request_uc: int = 0
    channel: int = 0
    number: int = 0


class CatalogNodes(Record, frozen=True, omit_defaults=False):
    """How many nodes are known to be alive, this one among them, and how many of them serve."""

    live: int = 0
    serving: int = 0


class CatalogProviders(Record, frozen=True, omit_defaults=False):
    """How those who serve fared."""

    healthy: int = 0
    avoided: int = 0
    successes: int = 0
    failures: int = 0


class CatalogModel(Record, frozen=True, omit_defaults=False):
    """A model that a request would find somebody for; ``here``: on this node. Speeds are medians, or ``None``."""

    id: ModelId
    here: bool = False
    providers: int = 0
    state: str = ""
    kinds: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    context_length: int = 0
    answers: int = 0
    decode_tps_p50: float | None = None
    first_token_ms_p50: float | None = None


class Catalog(Record, frozen=True, omit_defaults=False):
    """``/api/catalog``; ``modes`` and ``capabilities`` are what a model's name may be instead."""

    nodes: CatalogNodes = CatalogNodes()
    providers: CatalogProviders = CatalogProviders()
    models: tuple[CatalogModel, ...] = ()
    modes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


class Candidate(Record, frozen=True, omit_defaults=False):
    """One who can answer: ``local`` or a ``peer``. ``first_ms`` of ``expected_ms`` come before the first token."""

    kind: str
    node: str
    model: ModelId
    reason: str = ""
    expected_ms: float = 0.0
    context: int = 0
    first_ms: float = 0.0
    rate: float = 0.0
    cost_uc: int = 0


class Rejection(Record, frozen=True, omit_defaults=False):
    """One who cannot, by which rule (``gate``), and why."""

    kind: str
    node: str
    model: ModelId
    gate: str = ""
    reason: str = ""


class Rung(Record, frozen=True, omit_defaults=False):
    """One model that a request would be tried with; ``error`` says why there is none of that name."""

    name: str
    model: ModelId
    candidates: tuple[Candidate, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    code: str = ""
    error: str = ""


class Explanation(Record, frozen=True, omit_defaults=False):
    """Who would answer a request: the models that would be tried, in order."""

    model: str | None = None
    rungs: tuple[Rung, ...] = ()


class Ranked(Record, frozen=True, omit_defaults=False):
    """A document by its place in the request, and its score: the higher the better."""

    index: int
    relevance_score: float


class Refusal(Record, frozen=True, omit_defaults=False):
    """Why something has no answer."""

    message: str = ""
    code: str | None = None
    param: str | None = None


class Compared(Record, frozen=True, omit_defaults=False):
    """One model's answer as chat completions has it, or its ``error``; times in milliseconds, cost in micro-credits."""

    entry: int
    model: str
    response: dict[str, Any] | None = None
    error: Refusal | None = None
    answered_by: str | None = None
    node: str | None = None
    route: str | None = None
    time_ms: float | None = None
    first_token_ms: float | None = None
    cost: int = 0


class Comparison(Record, frozen=True, omit_defaults=False):
    """The answers of several models, in the order in which they were named."""

    id: str
    data: tuple[Compared, ...] = ()


class JobStatus(Record, frozen=True, omit_defaults=False):
    """A job; once it is over with its ``result`` as its endpoint would have answered, or its ``error``."""

    id: str
    status: str
    created_at: int = 0
    ended_at: int | None = None
    dialect: str = ""
    model: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
