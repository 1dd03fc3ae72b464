"""What the engine's runner and its worker say to each other over the socket pair.

Frames are msgpack, length-prefixed by :mod:`meshnode.wire.frames`. The worker answers each engine step with one
:class:`Step` that carries the events of every request in it, never a frame per token.

    runner -> worker   Load, then any of Submit Grant Cancel Ping Stop
    worker -> runner   LoadProgress* then (Ready | LoadFailed), then any of Step Pong

Requests are numbered by the runner; a number is never used twice in the life of a worker.
"""

from __future__ import annotations

import msgspec

from meshnode.domain import GenerationRequest, Kind, Record, Tagged
from meshnode.events import Event

PIPE_LIMIT = 64 * 2**20
"""Bytes of one frame; above the largest body the API takes, with room for msgpack."""
STEP_TOKENS = 512
"""Rows of one engine step at most."""
UNLIMITED = -1
"""Credit of a request that nobody gates."""


class Load(Tagged, frozen=True, kw_only=True):
    """How to load a model. ``gpu_layers`` -1 means all that fit, 0 the CPU alone.

    ``n_ctx`` 0 takes the model's own, capped by ``max_ctx``. ``threads`` 0 lets the worker choose. ``cache_bytes`` of
    host memory may hold states of idle conversations.
    """

    path: str
    n_ctx: int = 0
    max_ctx: int = 32768
    n_seq_max: int = 16
    n_batch: int = 2048
    n_ubatch: int = 512
    threads: int = 0
    threads_batch: int = 0
    gpu_layers: int = -1
    mmap: bool = True
    measure: bool = True
    cache_bytes: int = 0


class Submit(Tagged, frozen=True):
    """Take a request, and compute no more of it than was granted before the next :class:`Grant`.

    ``prefill`` counts positions of the prompt, ``credit`` positions of the answer; :data:`UNLIMITED` gates nothing.
    The first token of the answer is drawn from the prompt's last position and costs no credit: a credit of N lets
    N + 1 tokens out. An input to be embedded is computed whole once its first position is granted: it cannot always be
    computed in parts.
    """

    number: int
    request: GenerationRequest
    credit: int = UNLIMITED
    prefill: int = UNLIMITED


class Grant(Tagged, frozen=True):
    """``tokens`` more positions of the answer may be computed for the request, ``prefill`` more of its prompt."""

    number: int
    tokens: int
    prefill: int = 0


class Cancel(Tagged, frozen=True):
    """Free the request's slot now; no event of it follows."""

    number: int


class Ping(Tagged, frozen=True):
    """Answer with a :class:`Pong` between two steps."""

    nonce: int


class Stop(Tagged, frozen=True):
    """Leave the loop and exit 0."""


ToWorker = Load | Submit | Grant | Cancel | Ping | Stop


class Device(Record, frozen=True):
    """A compute device the library sees; memory in bytes."""

    name: str
    description: str
    kind: str
    """``cpu``, ``gpu``, ``igpu`` or ``accel`` (ggml's words)."""
    memory_total: int
    memory_free: int


class EngineInfo(Record, frozen=True, kw_only=True):
    """What loading gave: shape, placement, and the speed measured right after it (tokens per second)."""

    n_ctx: int
    n_ctx_train: int
    n_seq_max: int
    n_vocab: int
    n_layers: int
    gpu_layers: int
    """Layers that went to a GPU."""
    devices: tuple[Device, ...]
    used_devices: tuple[str, ...]
    backends: tuple[str, ...]
    system_info: str
    threads: int
    threads_batch: int
    threads_reason: str = ""
    """Why so many: what the machine has, and what was measured at load."""
    n_params: int
    size_bytes: int
    has_template: bool
    template_sha256: str
    modalities: tuple[str, ...] = ("text",)
    kinds: tuple[str, ...] = (Kind.GENERATE.value,)
    """What may be asked of it (:class:`meshnode.domain.Kind`)."""
    embedding_length: int = 0
    """Numbers in a vector of the model; 0 where it gives none."""
    decode_tps: float = 0.0
    prefill_tps: float = 0.0
    load_s: float = 0.0
    memory: int = 0
    """Bytes it takes: its buffers on all devices, as the library says, and the worker itself."""
    kv_unified: bool = True
    sandbox: tuple[str, ...] = ()
    """Layers the worker is under, as ``seccomp``, ``landlock-7`` (:mod:`meshnode.engine.confine`)."""
    sandbox_missing: tuple[str, ...] = ()
    """Layers it could not have, each with the kernel's reason."""


class LoadProgress(Tagged, frozen=True):
    """``fraction`` in 0..1 of the weights are in place."""

    fraction: float


class Ready(Tagged, frozen=True):
    """The model is loaded and measured."""

    info: EngineInfo


class LoadFailed(Tagged, frozen=True):
    """The model cannot be loaded; ``code`` is that of a class in :mod:`meshnode.errors`."""

    reason: str
    code: str = "model_failed"


class Gauge(Record, frozen=True):
    """The scheduler's state after a step, for metrics and admission; ``kv_idle`` cells are what ended requests left."""

    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_total: int = 0
    kv_idle: int = 0


class Step(Tagged, frozen=True):
    """The events of one engine step, in order, with the request number each belongs to."""

    events: tuple[tuple[int, Event], ...]
    gauge: Gauge = Gauge()
    step_ms: float = 0.0
    decoded: int = 0
    prefilled: int = 0


class Pong(Tagged, frozen=True):
    """Alive, between two steps."""

    nonce: int
    gauge: Gauge = Gauge()


FromWorker = LoadProgress | Ready | LoadFailed | Step | Pong

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """The msgpack of one message (no length prefix)."""
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Inverse of :func:`encode` on the worker's side. Raises ``msgspec.DecodeError`` on anything else."""
    return _to_worker.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """Inverse of :func:`encode` on the runner's side. Raises ``msgspec.DecodeError`` on anything else."""
    return _from_worker.decode(data)
