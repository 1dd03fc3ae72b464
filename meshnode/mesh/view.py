"""What this node knows of its mesh, as its owner is shown it: models others serve, peers, credits. Plain records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from meshnode.domain import GenerationRequest, ModelId, PeerId, Record
from meshnode.ledger.accounts import ChannelView as ChannelView  # what the ledger says is shown as it is
from meshnode.ledger.accounts import CreditsView as CreditsView
from meshnode.mesh.route import Candidate, Rejection
from meshnode.mesh.samples import Pace


class ProviderView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A peer that serves a model. ``decode_tps`` as it says, tokens per second; prices in micro-credits per token."""

    peer: PeerId
    state: str
    context_length: int
    decode_tps: float
    slots: int
    free: int
    queue: int
    input_uc: int
    output_uc: int


class MeshModel(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A model that peers serve now; figures are those of the provider with the longest context."""

    id: ModelId
    quantisation: str
    context_length: int
    parameters: int
    family: str
    license: str
    modalities: tuple[str, ...]
    kinds: tuple[str, ...]
    providers: tuple[ProviderView, ...]


class PeerView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A peer: how it is reached, what it offers, how it did.

    ``connected``; ``address`` is the remote end and ``outbound`` whether we dialled; ``source`` is how its offer came
    (``itself``, or the id of the peer that passed it on). Times in seconds; speeds in tokens per second; ``score`` 0..1
    falls with failures; ``avoided`` says why it is not asked now, empty when it is. ``successes`` and ``failures``
    count requests since this node started.
    """

    peer: PeerId
    connected: bool
    address: str
    outbound: bool
    rtt_s: float | None
    models: tuple[str, ...]
    software: str
    source: str
    offer_age_s: float | None
    successes: int
    failures: int
    first_token_s: float | None
    decode_tps: float | None
    score: float
    avoided: str
    last_failure: str


class ServedView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Whether strangers may use a model of this node."""

    id: ModelId
    served: bool


class ReceiptView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What one request to a peer cost. Costs and prices in micro-credits, prices per token.

    ``state``: ``open`` while more may come, ``owed`` until a receipt pays for all of it, ``signed`` by this node, then
    ``confirmed`` by the provider. ``channel`` and ``number`` are those of that receipt, which is of a whole channel.
    """

    id: str
    request: str
    model: ModelId
    peer: PeerId
    created: int
    state: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_uc: int
    paid_uc: int
    input_uc: int
    cached_uc: int
    output_uc: int
    request_uc: int
    channel: int
    number: int


class RungView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One model that a request would be tried with: who would be asked, in which order, and why all others not.

    ``error`` says why there is no such model, with its ``code``; both are empty where there is one.
    """

    name: str
    model: ModelId
    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    code: str
    error: str


class MeshView(Protocol):
    """The mesh as the API shows and steers it."""

    @property
    def joined(self) -> bool:
        """Whether this node belongs to a mesh: else nobody but peers on this machine is let in."""

    def models(self) -> Sequence[MeshModel]:
        """Models that peers serve now, by id."""

    def peers(self) -> Sequence[PeerView]:
        """Peers that are connected, whose offers are known, or who broke the protocol lately."""

    async def credits(self) -> CreditsView:
        """What was earned and spent, from the signed records."""

    async def receipt(self, id_: str) -> ReceiptView:
        """What one request cost, by the id its answer gave. Raises NotFound for one that is not remembered."""

    def pace(self, model: ModelId) -> Pace:
        """How fast answers with a model were lately, whoever gave them."""

    def explain(self, request: GenerationRequest) -> Sequence[RungView]:
        """The plan of a request that nobody is asked to carry out."""

    async def join(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>``, now and at each start. Raises ConfigError or Unreachable."""

    async def leave(self) -> int:
        """Forget every address joined or remembered, and let strangers in no more; gives how many were forgotten."""

    def served(self) -> Sequence[ServedView]:
        """Every model of this node and whether strangers may use it."""

    async def serve(self, model: str, on: bool) -> ServedView:
        """Let strangers use a model of this node, or no more, from now on. Raises ModelNotFound."""
