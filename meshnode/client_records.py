"""What a running node tells :mod:`meshnode.client`, as records; fields that this version does not know are left out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshnode.domain import ModelId, PeerId, Record


class DeviceStatus(Record, frozen=True, omit_defaults=False):
    """A compute device of the node; memory in bytes."""

    name: str
    description: str = ""
    kind: str = ""
    memory_total: int = 0
    memory_free: int = 0


class ModelStatus(Record, frozen=True, omit_defaults=False):
    """A model as ``/api/status`` shows it; speeds in tokens per second, as measured when it was loaded.

    Where it lies and how fast it is are ``None`` until it is loaded. ``memory`` is what it takes, in bytes, as its
    library says, and ``memory_estimated`` what was expected before.
    """

    id: ModelId
    state: str = "unloaded"
    progress: float = 0.0
    reason: str = ""
    context_length: int | None = None
    gpu_layers: int | None = None
    layers: int | None = None
    devices: tuple[str, ...] | None = None
    memory: int = 0
    memory_estimated: int = 0
    threads: int | None = None
    threads_batch: int | None = None
    threads_reason: str = ""
    sandbox: tuple[str, ...] = ()
    sandbox_missing: tuple[str, ...] = ()
    decode_tps: float | None = None
    prefill_tps: float | None = None
    running: int = 0
    waiting: int = 0
    kv_used: int = 0
    kv_total: int = 0
    restarts: int = 0


class MeshStatus(Record, frozen=True, omit_defaults=False):
    """The node's mesh: ``peers`` connected, ``models`` that peers serve; ``client_only``: it serves none itself."""

    joined: bool = False
    peers: int = 0
    models: int = 0
    client_only: bool = False


class BatchStatus(Record, frozen=True, omit_defaults=False):
    """Batches that are not over, how many of their requests are being answered now, and how many wait."""

    unfinished: int = 0
    lines_running: int = 0
    lines_waiting: int = 0


class Fetching(Record, frozen=True, omit_defaults=False):
    """A model on its way to the disk: ``phase`` as of a pull, ``progress`` of the fetching in 0..1."""

    source: str
    phase: str = "fetch"
    progress: float = 0.0


class Status(Record, frozen=True, omit_defaults=False):
    """``/api/status``; ``generating`` and ``queued`` count requests, ``home`` is told to the owner only."""

    version: str
    peer_id: str = ""
    addresses: tuple[str, ...] = ()
    api: tuple[str, ...] = ()
    home: str = ""
    uptime_s: float = 0.0
    models: tuple[ModelStatus, ...] = ()
    fetching: tuple[Fetching, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()
    backends: tuple[str, ...] = ()
    draining: bool = False
    generating: int = 0
    queued: int = 0
    batches: BatchStatus = BatchStatus()
    mesh: MeshStatus = MeshStatus()


class Model(ModelStatus, frozen=True, omit_defaults=False):
    """A model the node holds, or that ``providers`` peers serve (``owned_by`` is ``mesh`` then: it has no file here).

    ``size`` in bytes; ``managed``: the file lies in the home and goes with ``remove``; ``added`` in seconds since 1970.
    What follows ``providers`` is as its file says, and how it fares in memory as of :class:`ModelStatus`.
    """

    context_length: int = 0
    size: int = 0
    quantisation: str = ""
    parameters: int = 0
    path: str = ""
    source: str = ""
    license: str = ""
    managed: bool = False
    owned_by: str = "local"
    providers: int = 0
    name: str = ""
    family: str = ""
    architecture: str = ""
    modalities: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    sha256: str = ""
    template_sha256: str = ""
    added: int = 0
    modified_ns: int = 0
    embedding_length: int = 0
    vocab_size: int = 0
    kv_bytes_per_token: int = 0
    state_bytes: int = 0
    row_floats: int = 0
    active_bytes: int = 0


class Fit(Record, frozen=True, omit_defaults=False):
    """What a model takes (bytes) and where it would run: ``gpu``, ``split``, ``cpu`` or ``none``."""

    placement: str
    gpu_layers: int = 0
    layers: int = 0
    context: int = 0
    largest_context: int = 0
    weights: int = 0
    cache: int = 0
    compute: int = 0
    needed: int = 0
    free: int = 0
    sentence: str = ""


class Pace(Record, frozen=True, omit_defaults=False):
    """Tokens per second, and whether that was ``measured``, is ``estimated``, or ``unknown`` (0)."""

    decode_tps: float = 0.0
    source: str = "unknown"
    sentence: str = ""


class Outlook(Record, frozen=True, omit_defaults=False):
    """Whether a model would run on the node alone, with the memory that is free now."""

    model: ModelId
    fits: bool
    fit: Fit
    speed: Pace = Pace()


class PullProgress(Record, frozen=True, omit_defaults=False):
    """How far a pull is: ``phase`` is fetch, verify, unpack or done; bytes; ``model`` comes with done."""

    phase: str
    done: int = 0
    total: int | None = None
    model: ModelId | None = None


class Peer(Record, frozen=True, omit_defaults=False):
    """A peer. Times in seconds, speeds in tokens per second; ``score`` 0..1; ``avoided`` says why it is not asked now.

    ``address`` is the remote end, ``outbound`` whether this node dialled; ``source`` is how its offer came: ``itself``,
    or the id of the peer that passed it on. ``successes`` and ``failures`` count requests since the node started.
    """

    peer: PeerId
    connected: bool = False
    address: str = ""
    outbound: bool = False
    rtt_s: float | None = None
    models: tuple[str, ...] = ()
    software: str = ""
    source: str = ""
    offer_age_s: float | None = None
    successes: int = 0
    failures: int = 0
    first_token_s: float | None = None
    decode_tps: float | None = None
    score: float = 1.0
    avoided: str = ""
    last_failure: str = ""


class Channel(Record, frozen=True, omit_defaults=False):
    """One channel of receipts; amounts in micro-credits.

    ``role`` is the node's: ``consumer`` (it owes) or ``provider`` (it is owed). ``total_uc`` is the newest receipt's,
    ``confirmed_uc`` that of the newest which both have signed.
    """

    role: str
    peer: PeerId
    key: str = ""
    chan: int = 0
    seq: int = 0
    total_uc: int = 0
    confirmed_uc: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0


class Credits(Record, frozen=True, omit_defaults=False):
    """``/api/credits``, in micro-credits; the unconfirmed amounts are part of what was earned and spent."""

    earned: int = 0
    spent: int = 0
    balance: int = 0
    earned_unconfirmed: int = 0
    spent_unconfirmed: int = 0
    channels: tuple[Channel, ...] = ()


class Served(Record, frozen=True, omit_defaults=False):
    """Whether strangers may use a model of the node."""

    id: ModelId
    served: bool = False


class History(Record, frozen=True, omit_defaults=False):
    """How many objects of each kind the node keeps; ``enabled``: it keeps new ones."""

    enabled: bool = True
    kept: Mapping[str, int] = msgspec.field(default_factory=dict)
