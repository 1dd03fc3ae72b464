"""What an answer is made of: the events of one request, whatever engine or peer they come from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from meshnode.domain import FinishReason, Record, Tagged
from meshnode.errors import InternalFault, MeshnodeError


class Usage(Record, frozen=True):
    """Token counts of one request, all choices together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(Record, frozen=True):
    """Where the time went, in milliseconds (llama.cpp's words)."""

    queue_ms: float = 0.0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class TokenLogprob(Record, frozen=True):
    """Natural-log probability of one token, from the raw logits; ``top`` holds the likeliest alternatives."""

    token_id: int
    token: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class Queued(Tagged, frozen=True):
    """Waiting; ``position`` 1 is next."""

    position: int
    estimate_s: float | None = None


class Loading(Tagged, frozen=True):
    """The model is being loaded; ``fraction`` in 0..1. ``fetching``: of its file, which is on its way to the disk."""

    fraction: float
    fetching: bool = False


class Prefilling(Tagged, frozen=True):
    """``done`` of ``total`` prompt tokens are computed."""

    done: int
    total: int


class Started(Tagged, frozen=True):
    """The request was accepted by an engine; ``prompt_tokens`` is final.

    ``dropped`` messages were left out of it, as its ``transforms`` allow.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    seed: int = 0
    dropped: int = 0


class TextDelta(Tagged, frozen=True):
    """Whole characters of one choice; token ids count only for the weights they are tagged with."""

    text: str
    choice: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Tagged, frozen=True):
    """Whole characters of a choice's reasoning."""

    text: str
    choice: int = 0
    token_ids: tuple[int, ...] = ()


class RefusalDelta(Tagged, frozen=True):
    """Whole characters of a refusal."""

    text: str
    choice: int = 0


class ToolCallStarted(Tagged, frozen=True):
    """Call number ``index`` of a choice begins; ``token_ids`` are what it took so far, its syntax included."""

    index: int
    id: str
    name: str
    choice: int = 0
    token_ids: tuple[int, ...] = ()


class ToolCallDelta(Tagged, frozen=True):
    """More of the JSON arguments of call number ``index``."""

    index: int
    arguments: str
    choice: int = 0
    token_ids: tuple[int, ...] = ()


class EmbeddingResult(Tagged, frozen=True):
    """One vector, little-endian float32, of input number ``index``."""

    index: int
    vector: bytes


class RerankResult(Tagged, frozen=True):
    """The score of document number ``index``."""

    index: int
    score: float


class Counted(Tagged, frozen=True):
    """What a prompt is to the model: how many tokens, which, and its text as it was given, rendered or read back.

    ``pieces`` are the bytes of each token, where these were asked for.
    """

    tokens: int
    token_ids: tuple[int, ...] = ()
    text: str = ""
    pieces: tuple[bytes, ...] = ()


class Heartbeat(Tagged, frozen=True):
    """Nothing new, still alive."""


class Resumed(Tagged, frozen=True):
    """The answer continues on another engine or peer from ``position`` (output tokens)."""

    position: int
    node: str = ""
    reason: str = ""


class ChoiceFinished(Tagged, frozen=True):
    """A choice ended; ``stop`` is the stop string or token text that ended it, if one did."""

    reason: FinishReason
    choice: int = 0
    stop: str | None = None


class Charge(Record, frozen=True):
    """What an answer of a peer cost this node, in micro-credits; ``receipt`` is the id by which this node knows it."""

    receipt: str
    cost_uc: int


class Finished(Tagged, frozen=True):
    """Last event of a request that went well. ``charge`` is this node's own account; none comes from a peer."""

    usage: Usage
    timings: Timings = Timings()
    charge: Charge | None = None


class Failed(Tagged, frozen=True):
    """Last event of a request that did not; ``code`` is that of a class in :mod:`meshnode.errors`."""

    code: str
    message: str
    hint: str = ""
    param: str | None = None
    retry_after_s: float | None = None


Event = (
    Queued
    | Loading
    | Prefilling
    | Started
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | EmbeddingResult
    | RerankResult
    | Counted
    | Heartbeat
    | Resumed
    | ChoiceFinished
    | Finished
    | Failed
)
"""What an answer is made of. Exactly one ``Finished`` or ``Failed`` closes it."""
CLOSING: Final = (Finished, Failed)
"""What closes it, for ``isinstance``: a union would be made anew for every token."""
WAITS: Final = (Queued, Loading, Heartbeat)
"""What may come before an engine works on it."""
STANDING: Final = (*WAITS, Prefilling)
"""What only says how things stand, and is nothing of the answer."""


_SPOKEN: Final = (TextDelta, ReasoningDelta, ToolCallDelta)


def failure(error: MeshnodeError) -> Failed:
    """The event that closes an answer for the reason an exception gives."""
    return Failed(
        code=error.code,
        message=error.message,
        hint=error.hint,
        param=error.param,
        retry_after_s=error.retry_after_s,
    )


def _tree(kind: type[MeshnodeError]) -> Iterator[type[MeshnodeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


# Rooms may refine an error for themselves under its own code; that is still the tree's error.
_BY_CODE: Final[Mapping[str, type[MeshnodeError]]] = {
    kind.code: kind for kind in _tree(MeshnodeError) if kind.__module__ == MeshnodeError.__module__
}


def kind_of(code: str) -> type[MeshnodeError] | None:
    """The error that has this code; None for a code that none has."""
    return _BY_CODE.get(code)


def error_of(failed: Failed) -> MeshnodeError:
    """The error an answer's last event stands for, as :func:`failure` took it; an unknown code is an InternalFault."""
    kind = kind_of(failed.code) or InternalFault
    return kind(failed.message, hint=failed.hint, param=failed.param, retry_after_s=failed.retry_after_s)


def decoded_tokens(event: Event) -> int:
    """How many tokens of an answer an event took to compute; what reading it gives back as credit."""
    if isinstance(event, _SPOKEN):
        return len(event.token_ids) or 1
    return len(event.token_ids) if isinstance(event, ToolCallStarted) else 0
