"""The nouns of meshnode: frozen records that every room shares. Pure.

A client's request in any dialect becomes one :class:`GenerationRequest`; whatever answers it, near or far,
gives one stream of :data:`meshnode.events.Event`. The vocabulary is whole from the start; what is not served yet is
refused by name where a request enters (``api``), never dropped.

Units: token counts are tokens of the model in question, times are seconds unless the name says otherwise.
"""

from __future__ import annotations

import enum
from typing import NewType

import msgspec

RequestId = NewType("RequestId", str)
"""Unique per request; what ``x-request-id`` shows."""
ModelId = NewType("ModelId", str)
"""What a user types: ``name`` or ``name:quantisation``; compared without case."""
PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58."""
CallerId = NewType("CallerId", str)
"""Who asks, as the engine keys its prefix cache: ``owner``, or a principal or peer."""
TokenId = NewType("TokenId", int)

FIRST_TOKEN_S = 300.0
"""How long a request that names no deadline waits for its first token."""

OWNER = CallerId("owner")


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records: frozen, compared by value, encodable as msgpack."""


class Tagged(Record, frozen=True, tag=True):
    """Base of records that stand in a union: the class name is the tag."""


class ServiceClass(enum.IntEnum):
    """Order of service under contention; lower goes first (credits: "Standing and limits")."""

    OWNER = 0
    FRIEND = 1
    CREDITOR = 2
    NOTE = 3
    LINE = 4
    NEWCOMER = 5
    LEFTOVER = 6


class Privacy(enum.StrEnum):
    """Who may see a prompt; a class is never downgraded."""

    STANDARD = "standard"
    PROTECTED = "protected"
    PRIVATE_GATEWAY = "private-gateway"
    CONFIDENTIAL = "confidential"


class Kind(enum.StrEnum):
    """What is asked of a model."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"
    COUNT = "count"


class Role(enum.StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(enum.StrEnum):
    """Why a choice ended (OpenAI's words)."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


# --- content ----------------------------------------------------------------------------------


class TextPart(Tagged, frozen=True, forbid_unknown_fields=True):
    """Plain text."""

    text: str


class ImagePart(Tagged, frozen=True, forbid_unknown_fields=True):
    """An image as it was sent: a data URL, or a remote one the owner allows."""

    url: str
    detail: str = "auto"


class AudioPart(Tagged, frozen=True, forbid_unknown_fields=True):
    """Audio bytes in the named container (``wav``, ``mp3``)."""

    data: bytes
    format: str


class FilePart(Tagged, frozen=True, forbid_unknown_fields=True):
    """A document sent along."""

    data: bytes
    filename: str = ""


class ReasoningPart(Tagged, frozen=True, forbid_unknown_fields=True):
    """What an assistant thought before it answered, sent back by the caller."""

    text: str
    signature: str = ""


class RefusalPart(Tagged, frozen=True, forbid_unknown_fields=True):
    """An assistant's refusal, sent back by the caller."""

    text: str


Part = TextPart | ImagePart | AudioPart | FilePart | ReasoningPart | RefusalPart


class ToolCall(Record, frozen=True, forbid_unknown_fields=True):
    """A call the assistant made; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Record, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Record, frozen=True, forbid_unknown_fields=True):
    """A function the model may call; ``parameters`` is its JSON schema as JSON text."""

    name: str
    description: str = ""
    parameters: str = "{}"
    strict: bool = False


class ToolMode(enum.StrEnum):
    """How far the caller leaves calling tools to the model."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class ToolChoice(Record, frozen=True, forbid_unknown_fields=True):
    """``names`` empty means any of the tools offered; one name is OpenAI's *named* choice."""

    mode: ToolMode = ToolMode.AUTO
    names: tuple[str, ...] = ()


class ConstraintKind(enum.StrEnum):
    """What the text must conform to."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    GRAMMAR = "grammar"
    REGEX = "regex"
    CHOICE = "choice"


class Constraint(Record, frozen=True, forbid_unknown_fields=True):
    """``source`` is the schema as JSON text, the GBNF, the regex, or the choices as a JSON list."""

    kind: ConstraintKind
    source: str = ""
    name: str = ""
    strict: bool = False


# --- how to sample and when to stop -------------------------------------------------------------


class Sampling(Record, frozen=True, forbid_unknown_fields=True):
    """Sampling fields, applied in llama.cpp's order and ended by the seeded Gumbel-max draw.

    Defaults are llama.cpp's, which suit small local models; a dialect overrides what its caller sends.
    ``logit_bias`` pairs token ids with additive biases. ``bad_words`` are texts that must not come (vLLM's).
    ``repeat_last_n`` and ``dry_penalty_last_n`` below 0 mean all there is. ``seed`` is 64 bit; ``None`` lets the node
    draw one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[str, ...] = ()
    seed: int | None = None


class Stopping(Record, frozen=True, forbid_unknown_fields=True):
    """When a choice ends. ``max_tokens`` ``None`` means until the context is full."""

    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


class Continuation(Record, frozen=True, forbid_unknown_fields=True):
    """An answer begun elsewhere, to be continued: the text so far and, for the same weights, its token ids."""

    text: str
    token_ids: tuple[int, ...] = ()
    weights_sha256: str = ""
    position: int = 0


class Sort(enum.StrEnum):
    """By what those who could answer are put in order."""

    PRICE = "price"
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    TIME = "time"
    """The whole answer's; what a router mode asks for, no client."""


class Preference(Record, frozen=True):
    """Who of those who could answer may, and in which order, as the caller wishes; it never leaves this node.

    ``order``, ``only`` and ``ignore`` hold peer ids, beginnings of them, or ``local``. Without ``fallbacks`` nobody is
    asked beside ``order``, or beside the first. Prices in micro-credits: per prompt token, per output token, and what a
    request costs at least. ``here_only``: nobody else may see the request.
    """

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    quantisations: tuple[str, ...] = ()
    sort: Sort | None = None
    fallbacks: bool = True
    most_prompt_uc: float | None = None
    most_output_uc: float | None = None
    most_request_uc: float | None = None
    here_only: bool = False


class GenerationRequest(Record, frozen=True):
    """One request in no dialect.

    To generate, exactly one of ``messages`` (rendered by the model's own chat template) and ``prompt`` (text or token
    ids, taken as they are) is given; with a ``suffix`` the answer is what stands between the two. In the place of
    ``prompt`` there may be several ``prompts``, each answered for itself: the answers to number ``i`` are the choices
    from ``i * choices`` on (:mod:`meshnode.mesh.several`). To embed, ``inputs`` are (texts, or token ids taken as they
    are), each of which becomes one vector, cut to ``dimensions`` where these are given. To rerank, each of the
    ``documents`` gets a score as an answer to ``query``. To count, a prompt is given as
    to generate, and nothing is computed of it; ``add_special`` false leaves out the tokens that the model wants around
    a text, ``echo`` asks for each token's bytes. It is done only where the model is: no prompt leaves the node to be
    counted.

    ``top_logprobs`` ``None`` means none are wanted. ``deadline_s`` bounds the whole answer, from when the record was
    made; without one only its first token is bounded (FIRST_TOKEN_S).
    ``template_kwargs`` is JSON text handed to the chat template. ``transforms`` are what may be done to messages that
    are longer than the context: ``middle-out`` leaves whole ones out. ``fallbacks`` are models for when ``model``
    cannot answer, in their order; with no ``model``, the first of them takes its place.
    """

    id: RequestId
    model: ModelId
    kind: Kind = Kind.GENERATE
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    suffix: str | None = None
    echo: bool = False
    choices: int = 1
    sampling: Sampling = Sampling()
    stopping: Stopping = Stopping()
    top_logprobs: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    constraint: Constraint | None = None
    reasoning_effort: str | None = None
    template_kwargs: str = "{}"
    caller: CallerId = OWNER
    service_class: ServiceClass = ServiceClass.OWNER
    privacy: Privacy = Privacy.STANDARD
    max_cost_uc: int | None = None
    deadline_s: float | None = None
    session: str | None = None
    continuation: Continuation | None = None
    cache_prompt: bool = True
    inputs: tuple[str | tuple[int, ...], ...] = ()
    dimensions: int | None = None
    query: str = ""
    documents: tuple[str, ...] = ()
    add_special: bool = True
    transforms: tuple[str, ...] = ()
    fallbacks: tuple[ModelId, ...] = ()
    provider: Preference = Preference()


# --- models -------------------------------------------------------------------------------------


class ModelCard(Record, frozen=True):
    """A model file this node holds. Sizes in bytes; ``modified_ns`` tells that the file is still the one read."""

    id: ModelId
    path: str
    size: int
    modified_ns: int
    sha256: str
    architecture: str
    quantisation: str
    context_length: int
    parameters: int = 0
    layers: int = 0
    embedding_length: int = 0
    kv_bytes_per_token: int = 0
    state_bytes: int = 0
    row_floats: int = 0
    active_bytes: int = 0
    vocab_size: int = 0
    family: str = ""
    name: str = ""
    license: str = ""
    template_sha256: str = ""
    source: str = ""
    added: int = 0
    managed: bool = False
    """Whether the file lies in the home and ``rm`` may delete it; else it is only referred to."""
    modalities: tuple[str, ...] = ("text",)
    kinds: tuple[str, ...] = (Kind.GENERATE.value, Kind.EMBED.value)
    """What may be asked of it (:class:`Kind`); a model made for embeddings generates nothing."""
