"""A mesh that is plain data: what it shows is what it was given, and what is asked of it is noted."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from meshnode.domain import GenerationRequest, ModelId, PeerId
from meshnode.errors import ModelNotFound, NotFound, Unreachable
from meshnode.identity import peer_id_of
from meshnode.mesh.samples import UNMEASURED, Pace
from meshnode.mesh.view import (
    ChannelView,
    CreditsView,
    MeshModel,
    PeerView,
    ProviderView,
    ReceiptView,
    RungView,
    ServedView,
)
from meshnode.net.transport import parse_dial

ANN = peer_id_of(bytes(range(32)))
BOB = peer_id_of(bytes(range(32, 64)))

PROVIDER = ProviderView(
    peer=ANN,
    state="ready",
    context_length=4096,
    decode_tps=40.126,
    slots=4,
    free=3,
    queue=0,
    input_uc=15,
    output_uc=125,
)
SLOW = msgspec.structs.replace(PROVIDER, peer=BOB, state="unloaded", context_length=2048, decode_tps=0.0)
FAR = MeshModel(
    id=ModelId("far-8b:q4_k_m"),
    quantisation="q4_k_m",
    context_length=4096,
    parameters=8_000_000_000,
    family="qwen",
    license="apache-2.0",
    modalities=("text",),
    kinds=("generate", "embed"),
    providers=(PROVIDER, SLOW),
)
"""A model of two peers, one of which would have to load it first."""

CONNECTED = PeerView(
    peer=ANN,
    connected=True,
    address=f"/ip4/192.0.2.7/tcp/9338/p2p/{ANN}",
    outbound=True,
    rtt_s=0.0124,
    models=(FAR.id,),
    software="meshnode/0.1.0",
    source="itself",
    offer_age_s=3.0,
    successes=12,
    failures=1,
    first_token_s=0.25,
    decode_tps=39.6,
    score=0.92,
    avoided="",
    last_failure="it was full",
)
HEARD_OF = PeerView(
    peer=BOB,
    connected=False,
    address="",
    outbound=False,
    rtt_s=None,
    models=(FAR.id, "b:q8_0", "c:q8_0"),
    software="",
    source=ANN,
    offer_age_s=20.0,
    successes=0,
    failures=3,
    first_token_s=None,
    decode_tps=None,
    score=0.1,
    avoided="it broke the protocol",
    last_failure="",
)

RECEIPT = ReceiptView(
    id="rcpt_01",
    request="req_1",
    model=FAR.id,
    peer=ANN,
    created=1_700_000_000,
    state="confirmed",
    prompt_tokens=10,
    cached_tokens=5,
    output_tokens=100,
    cost_uc=12_660,
    paid_uc=12_660,
    input_uc=15,
    cached_uc=2,
    output_uc=125,
    request_uc=2000,
    channel=7,
    number=3,
)
CHANNEL = ChannelView(
    role="provider",
    peer=ANN,
    key="ab" * 32,
    chan=1,
    seq=9,
    total_uc=1_500_000,
    confirmed_uc=1_300_000,
    prompt_tokens=100,
    output_tokens=2000,
    requests=12,
)
OWED = msgspec.structs.replace(CHANNEL, role="consumer", chan=2, total_uc=42, confirmed_uc=42, requests=1)
ACCOUNT = CreditsView(
    earned=1_500_000, spent=42, balance=1_499_958, earned_unconfirmed=200_000, spent_unconfirmed=0,
    channels=(CHANNEL, OWED),
)  # fmt: skip
NOTHING_YET = CreditsView(earned=0, spent=0, balance=0, earned_unconfirmed=0, spent_unconfirmed=0, channels=())


@dataclass
class FakeMesh:
    """A :class:`meshnode.mesh.view.MeshView`. Addresses are judged as by the real one; ``down`` ones do not answer."""

    offered: tuple[MeshModel, ...] = ()
    met: tuple[PeerView, ...] = ()
    account: CreditsView = NOTHING_YET
    serving: dict[str, bool] = field(default_factory=dict)
    down: frozenset[str] = frozenset()
    addresses: list[str] = field(default_factory=list)
    """Those joined."""
    receipts: tuple[ReceiptView, ...] = ()
    paces: dict[str, Pace] = field(default_factory=dict)
    planned: tuple[RungView, ...] = ()
    explained: list[GenerationRequest] = field(default_factory=list)
    """What a plan was asked for."""

    @property
    def joined(self) -> bool:
        """Whether any address was."""
        return bool(self.addresses)

    def models(self) -> tuple[MeshModel, ...]:
        """As given."""
        return self.offered

    def peers(self) -> tuple[PeerView, ...]:
        """As given."""
        return self.met

    async def credits(self) -> CreditsView:
        """As given."""
        return self.account

    async def receipt(self, id_: str) -> ReceiptView:
        """As given. Raises NotFound."""
        for receipt in self.receipts:
            if receipt.id == id_:
                return receipt
        raise NotFound("no such receipt is remembered.")

    def pace(self, model: ModelId) -> Pace:
        """As given."""
        return self.paces.get(model, UNMEASURED)

    def explain(self, request: GenerationRequest) -> tuple[RungView, ...]:
        """As given; the request is noted."""
        self.explained.append(request)
        return self.planned

    async def join(self, address: str) -> PeerId:
        """Note it. Raises ConfigError for what is no address with a peer, Unreachable for one that is down."""
        _, peer = parse_dial(address)
        if address in self.down:
            raise Unreachable(f"{peer} did not answer at {address}.")
        self.addresses.append(address)
        return peer

    async def leave(self) -> int:
        """Forget them."""
        count = len(self.addresses)
        self.addresses.clear()
        return count

    def served(self) -> tuple[ServedView, ...]:
        """As given, and as ``serve`` changed it."""
        return tuple(ServedView(id=ModelId(name), served=on) for name, on in self.serving.items())

    async def serve(self, model: str, on: bool) -> ServedView:
        """Change it. Raises ModelNotFound."""
        if model not in self.serving:
            raise ModelNotFound(f"no model {model!r}.", param="model")
        self.serving[model] = on
        return ServedView(id=ModelId(model), served=on)
