"""What the API needs of the node, as small protocols; :mod:`meshnode.node` fills it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from meshnode.config import ApiSettings
from meshnode.domain import ModelCard, ModelId, Record
from meshnode.engine.pipe import Device, EngineInfo, Gauge
from meshnode.gateway.batches import Batches
from meshnode.gateway.feed import ArrivalView as ArrivalView
from meshnode.gateway.files import Files
from meshnode.gateway.history import History
from meshnode.gateway.job import Jobs
from meshnode.gateway.keeping import NOTHING_KEPT
from meshnode.gateway.keys import KeyRing
from meshnode.gateway.sessions import Sessions
from meshnode.gateway.turnstile import Turnstile
from meshnode.mesh.answer import Dispatcher
from meshnode.mesh.view import MeshView
from meshnode.observe import Metrics
from meshnode.storage.templates import Templates


class ModelStateView(Protocol):
    """How one model fares: ``unloaded``, ``loading``, ``ready`` or ``failed``; ``progress`` in 0..1."""

    @property
    def id(self) -> ModelId: ...
    @property
    def state(self) -> str: ...
    @property
    def progress(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def info(self) -> EngineInfo | None: ...
    @property
    def gauge(self) -> Gauge: ...
    @property
    def restarts(self) -> int: ...
    @property
    def estimated(self) -> int: ...


class PullProgressView(Protocol):
    """How far a pull is, in bytes; ``phase`` is ``fetch``, ``verify``, ``unpack``, or ``done`` with the ``model``."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def model(self) -> ModelId | None: ...


class Library(Protocol):
    """The models on disk."""

    @property
    def arrivals(self) -> Iterable[ArrivalView]:
        """What is being fetched now."""

    def arriving(self, name: str | None) -> ArrivalView | None:
        """The fetch under way after which the model of that name (``None``: the default) will be here, if any."""

    def cards(self) -> tuple[ModelCard, ...]:
        """Every model this node holds."""

    def resolve(self, name: str | None) -> ModelCard:
        """The model of that name or alias, without case; ``None``: the default. Raises ModelNotFound."""

    async def add_file(self, path: Path, *, name: str | None = None) -> ModelCard:
        """Refer to a file where it is. Raises ModelFileRefused."""

    async def remove(self, name: str) -> ModelCard:
        """Forget a model, and delete its file where the home owns it. Raises ModelNotFound."""

    async def scan(self) -> list[ModelCard]:
        """Find models that other programs hold."""

    def pull(self, source: str) -> AbstractAsyncContextManager[AsyncIterator[PullProgressView]]:
        """Fetch a model; leaving the block stops it, to be resumed later. Raises SourceFailed."""


class Pool(Protocol):
    """The models in memory."""

    def states(self) -> Sequence[ModelStateView]:
        """One for each model that is or was loaded."""

    async def load(self, card: ModelCard) -> EngineInfo:
        """Load it now and wait. Raises ModelFailed."""

    async def unload(self, model: ModelId) -> None:
        """Free its memory. Raises Conflict while it answers."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What the node says about itself. The callables are asked anew each time."""

    version: str
    peer_id: str
    home: Path
    started: float
    """On the context's ``clock``."""
    addresses: Callable[[], Sequence[str]]
    """Full multiaddrs ending in ``/p2p/…``."""
    api_urls: Callable[[], Sequence[str]]
    """Base URLs as an OpenAI client takes them, ending in ``/v1``."""
    devices: Callable[[], Sequence[Device]]
    backends: Callable[[], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class ApiContext:
    """Everything the API is built from.

    ``clock`` is monotonic seconds, ``wall_clock`` seconds since 1970, ``entropy`` gives that many random bytes,
    ``stop`` asks the node to stop, ``draining`` is set when it does: answers under way then end with an error event.
    """

    settings: ApiSettings
    dispatcher: Dispatcher
    library: Library
    pool: Pool
    mesh: MeshView
    metrics: Metrics
    facts: NodeFacts
    turnstile: Turnstile
    admin_token: str
    entropy: Callable[[int], bytes]
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    stop: Callable[[], None]
    draining: trio.Event
    outlook: Callable[[ModelCard, int], Record]
    """Whether, where, with how much context and how fast a model would run here; a context of 0 is the settings'."""
    templates: Templates
    """The prompts that the owner stored."""
    keys: KeyRing = field(default_factory=KeyRing)
    jobs: Jobs = NOTHING_KEPT.jobs
    history: History = NOTHING_KEPT.history
    hosts: frozenset[str] = frozenset()
    """Further Host names to answer to: those of the TLS certificate, for a bind off loopback."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """More names of models, as the library has them: they stand for models of the mesh too."""
    files: Files | None = None
    batches: Batches | None = None
    sessions: Sessions | None = None
    """``None`` where this node keeps nothing."""
    client_only: bool = False
    """This node uses the mesh and serves nothing."""
    commit_after_s: float = 10.0
    """How long a stream may still turn into an error with its own status."""
    comment_every_s: float = 15.0
    load_patience_s: float = 20.0
    """How long a caller who sees no progress waits for a model to be loaded, before it is told when to come back."""
