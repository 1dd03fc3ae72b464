"""One good example, at least, of everything that travels; made of fixed keys, so that each run makes the same bytes."""

from __future__ import annotations

from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Counted,
    EmbeddingResult,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    RefusalDelta,
    RerankResult,
    Resumed,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from meshnode.identity import Identity, network_tag
from meshnode.wire import messages as m
from meshnode.wire import offer as o
from meshnode.wire.body import sha256
from meshnode.wire.canonical import encode
from meshnode.wire.fields import UINT, Prices
from meshnode.wire.receipt import (
    NO_PREVIOUS,
    Receipt,
    SignedReceipt,
    consumer_payload,
    digest,
    encode_signed,
    provider_payload,
)

CALLER = Identity(bytes([1]) * 32, bytes([2]) * 32)
"""Who asks; its ledger key is a consumer's."""
PROVIDER = Identity(bytes([3]) * 32, bytes([4]) * 32)
"""Who answers; its ledger key is a provider's."""
SEEDS = {
    "caller.peer": CALLER.peer_seed,
    "caller.ledger": CALLER.ledger_seed,
    "provider.peer": PROVIDER.peer_seed,
    "provider.ledger": PROVIDER.ledger_seed,
}
NETWORK = network_tag("meshnode", None)
NONCES = {"caller": bytes(range(16)), "provider": bytes(range(16, 32))}
PRICES = Prices(input_uc=3, cached_uc=1, output_uc=12, request_uc=100)
BODY = b"\x80" * 40
"""Stands for a request's body where only its length matters."""


def terms(*, body: bytes = BODY, network: bytes = NETWORK, request: str = "req-1") -> m.AskTerms:
    """What the caller asks of the provider."""
    return m.AskTerms(
        network=network,
        provider=PROVIDER.peer_id,
        request=request,
        kind="generate",
        model="SmolLM2-135M-Instruct:Q8_0",
        body_sha256=sha256(body),
        body_bytes=len(body),
        prompt_tokens=12,
        max_tokens=64,
        features=("chat",),
        privacy="standard",
        max_cost_uc=10_000,
        deadline_ms=300_000,
        prices=PRICES,
    )


def ask(number: int = 1, *, body: bytes = BODY, credit: int = 256) -> m.Ask:
    """A signed ask for a body of that length."""
    encoded = encode(terms(body=body))
    return m.Ask(number, encoded, CALLER.sign_for_ledger(m.terms_payload(encoded)), credit)


def receipt(seq: int = 7, *, network: bytes = NETWORK, prev: bytes = NO_PREVIOUS) -> Receipt:
    """What the caller owes the provider; ``seq`` stands for progress."""
    return Receipt(
        network=network,
        consumer=CALLER.ledger_public,
        provider=PROVIDER.ledger_public,
        chan=0xDEADBEEF,
        seq=seq,
        cum_uc=seq * 1000,
        cum_in=seq * 100,
        cum_out=seq * 60,
        n_req=seq,
        day=20_000,
        prev=prev,
    )


def signed(of: Receipt, *, both: bool = False) -> SignedReceipt:
    """A receipt with the caller's signature, or the provider's as well."""
    body = encode(of)
    sig_c = CALLER.sign_for_ledger(consumer_payload(body))
    return SignedReceipt(body, sig_c, PROVIDER.sign_for_ledger(provider_payload(body, sig_c)) if both else b"")


FIRST = signed(receipt(7), both=True)
SECOND = signed(receipt(8, prev=digest(FIRST)))


def hello(of: Identity, *, version: int = m.VERSION, max_open: int = 4) -> m.Hello:
    """How one of the two introduces itself."""
    nonce = NONCES["caller" if of is CALLER else "provider"]
    return m.Hello(version, NETWORK, of.ledger_public, nonce, "meshnode/0.1", max_open)


def proof(of: Identity, newest: tuple[SignedReceipt, ...] = ()) -> m.Proof:
    """How one of the two proves its ledger key to the other."""
    bond = m.bond(
        caller=CALLER.peer_id,
        provider=PROVIDER.peer_id,
        caller_nonce=NONCES["caller"],
        provider_nonce=NONCES["provider"],
        ledger=of.ledger_public,
    )
    return m.Proof(of.sign_for_ledger(bond), tuple(map(encode_signed, newest)))


LOGPROB = TokenLogprob(token_id=5, token=b"\xc3", logprob=-0.5, top=((5, b"\xc3", -0.5), (6, b"b", -1.25)))
EVENTS: dict[str, Event] = {
    "queued": Queued(position=3),
    "queued_estimate": Queued(position=3, estimate_s=1.5),
    "loading": Loading(fraction=0.25),
    "prefilling": Prefilling(done=512, total=1300),
    "started": Started(prompt_tokens=12, cached_tokens=4, seed=2**64 - 1),
    "text": TextDelta("Grüße 👋", 1, (2**31 - 1, 0, 128)),
    "text_logprobs": TextDelta("Ã", 0, (5,), (LOGPROB,)),
    "text_empty": TextDelta(""),
    "reasoning": ReasoningDelta("hm", 0, (9,)),
    "refusal": RefusalDelta("no"),
    "tool_call": ToolCallStarted(index=0, id="call0", name="look_up"),
    "tool_arguments": ToolCallDelta(index=0, arguments='{"word":'),
    "embedding": EmbeddingResult(index=1, vector=b"\x00\x00\x80\x3f" * 3),
    "rerank": RerankResult(index=0, score=-0.75),
    "counted": Counted(tokens=3, token_ids=(1, 2, 3), text="Grüße"),
    "heartbeat": Heartbeat(),
    "resumed": Resumed(position=17, node="n", reason="worker_died"),
    "choice_finished": ChoiceFinished(FinishReason.STOP, 0, "\n"),
    "finished": Finished(Usage(12, 3, 4, 0), Timings(1.0, 2.0, 3.5)),
    "finished_bare": Finished(Usage()),
    "failed": Failed("overloaded", "8 requests wait already.", "Try again later.", None, 5.0),
}
"""Every kind of event."""

OFFERED = o.ModelOffer(
    id="SmolLM2-135M-Instruct:Q8_0",
    weights=bytes(range(32)),
    template=b"",
    quantisation="Q8_0",
    context=8192,
    kv_type="f16",
    modalities=("text",),
    features=("chat", "completions"),
    kinds=("generate", "count"),
    prices=PRICES,
    decode_tps=41.5,
    first_token_ms=0.0,
    slots=4,
    free=3,
    queue=0,
    state="ready",
    parameters=134_515_008,
    family="llama",
    license="apache-2.0",
)


def offer(*, models: tuple[o.ModelOffer, ...] = (OFFERED,), network: bytes = NETWORK) -> o.Offer:
    """What the provider offers."""
    return o.Offer(
        network=network,
        peer=PROVIDER.peer_id,
        ledger=PROVIDER.ledger_public,
        issued_ms=1_760_000_000_000,
        ttl_s=60,
        addresses=("/ip4/192.0.2.1/tcp/4801",),
        models=models,
        privacy=("standard",),
        max_body=m.MAX_BODY,
        region="",
        software="meshnode/0.1",
    )


def signed_offer(body: bytes | None = None) -> o.SignedOffer:
    """The provider's offer, signed; or other bytes that it signed."""
    body = o.encode_offer(offer()) if body is None else body
    return o.SignedOffer(body, PROVIDER.sign_as_peer(o.offer_payload(body)))


MESSAGES: dict[str, m.Message] = {
    "hello": hello(CALLER),
    "hello_bare": m.Hello(1, NETWORK, CALLER.ledger_public, NONCES["caller"]),
    "proof": proof(CALLER),
    "proof_with_receipts": proof(PROVIDER, (FIRST, SECOND)),
    "ask": ask(),
    "accept": m.Accept(1),
    "refuse": m.Refuse(2**32 - 1, "overloaded", "8 requests wait already.", 5000, (CALLER.peer_id,)),
    "refuse_bare": m.Refuse(1, "draining"),
    "body": m.Body(1, BODY[:30], last=False),
    "body_last": m.Body(1, BODY[30:], last=True),
    "events_of_two": m.Events(((1, EVENTS["text"]), (2, EVENTS["finished"]))),
    "credit": m.Credit(((1, 64), (2, 1 << 24))),
    "tick": m.Tick(encode_signed(SECOND), (m.Mark(1, 12, 4, 32), m.Mark(2, 0, 0, 1))),
    "tick_without_marks": m.Tick(encode_signed(FIRST)),
    "receipt": m.Countersigned(encode_signed(FIRST)),
    "cancel": m.Cancel(1),
    "beat": m.Beat(),
    "bye": m.Bye("draining", "the node is stopping."),
    "bye_bare": m.Bye("done"),
    **{f"events_{name}": m.Events(((1, event),)) for name, event in EVENTS.items()},
}
"""Every message of ``/meshnode/infer/1``, and every kind of event inside one."""

OFFER_MESSAGES: dict[str, o.Message] = {
    "subscribe": o.Subscribe(version=1, network=NETWORK),
    "told": o.Told((o.Passed(signed_offer(), 0),), (CALLER.peer_id,)),
    "told_nothing": o.Told(()),
    "wrong": o.Wrong("network"),
}
"""Every message of ``/meshnode/offer/1``."""

LARGEST = Receipt(
    network=NETWORK,
    consumer=CALLER.ledger_public,
    provider=PROVIDER.ledger_public,
    chan=2**32 - 1,
    seq=UINT,
    cum_uc=UINT,
    cum_in=UINT,
    cum_out=UINT,
    n_req=UINT,
    day=2**32 - 1,
    prev=b"\xff" * 32,
)
"""No receipt has more bytes."""
