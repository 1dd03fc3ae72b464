"""The vectors of the wire: bytes and what they mean, as scripts/record_vectors writes them to tests/vectors. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from meshnode.domain import (
    Constraint,
    ConstraintKind,
    Continuation,
    FilePart,
    ImagePart,
    Message,
    ReasoningPart,
    RefusalPart,
    Role,
    Sampling,
    Stopping,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from meshnode.identity import public_key_of, verify
from meshnode.wire import messages as m
from meshnode.wire import offer as o
from meshnode.wire import receipt as r
from meshnode.wire.body import Body, decode_body, encode_body
from meshnode.wire.canonical import encode
from wiring import samples
from wiring.plain import named, plain

UNSIGNED: Final = bytes(64)


def told_offers(data: bytes) -> list[o.Offer]:
    """The offers in a message, each checked. Raises ProtocolViolation."""
    message = o.decode_message(data)
    passed = message.offers if isinstance(message, o.Told) else ()
    return [o.checked(each.offer, samples.NETWORK, verify, public_key_of) for each in passed]


DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "message": m.decode,
    "terms": m.decode_terms,
    "body": decode_body,
    "offer message": o.decode_message,
    "offer": o.decode_offer,
    "offers told": told_offers,
    "receipt": lambda data: r.content(r.SignedReceipt(data, UNSIGNED)),
    "signed receipt": r.decode_signed,
    "checked receipt": lambda data: r.checked(r.decode_signed(data), samples.NETWORK, verify),
}
"""How the bytes of a vector are read."""

CHAT = Body(
    messages=(
        Message(role=Role.SYSTEM, parts=(TextPart("Be brief."),)),
        Message(role=Role.USER, parts=(TextPart("Grüße"), ImagePart("data:image/png;base64,AA=="), FilePart(b"\0"))),
        Message(
            role=Role.ASSISTANT,
            parts=(ReasoningPart("hm", "s"), RefusalPart("no")),
            tool_calls=(ToolCall("call0", "look_up", '{"word": "door"}'),),
        ),
        Message(role=Role.TOOL, parts=(TextPart("a door"),), name="look_up", tool_call_id="call0"),
    ),
    choices=2,
    sampling=Sampling(temperature=0.0, seed=2**63, logit_bias=((5, -100.0),)),
    stopping=Stopping(max_tokens=64, stop=("\n",), stop_token_ids=(2,)),
    top_logprobs=0,
    tools=(Tool("look_up", "Look a word up.", "{}", strict=True),),
    tool_choice=ToolChoice(ToolMode.REQUIRED, ("look_up",)),
    constraint=Constraint(ConstraintKind.JSON_SCHEMA, "{}", "n", strict=True),
    continuation=Continuation("so far", (1, 2), "ab" * 32, 2),
)
BODIES: Final = {
    "empty": Body(),
    "chat": CHAT,
    "prompt": Body(prompt="Once upon a time", echo=True, suffix="The end."),
    "prompt_of_tokens": Body(prompt=(1, 2, 128, 65536)),
    "embed": Body(inputs=("a", (1, 2)), dimensions=64),
    "rerank": Body(query="door", documents=("a door", "")),
}
RECEIPTS: Final = {
    "nothing_owed": r.Receipt(
        samples.NETWORK, samples.CALLER.ledger_public, samples.PROVIDER.ledger_public, 0, 0, 0, 0, 0, 0, 0, bytes(32)
    ),
    "usual": samples.receipt(7),
    "largest": samples.LARGEST,
}

Vector = dict[str, Any]


def vector(name: str, decoder: str, data: bytes) -> Vector:
    """A valid one: its bytes, the bare value in them, and what they mean."""
    bare = plain(msgspec.msgpack.decode(data))
    return {"name": name, "decoder": decoder, "hex": data.hex(), "plain": bare, "means": named(DECODERS[decoder](data))}


def valid() -> dict[str, list[Vector]]:
    """Every valid vector, by the name of its file."""
    infer = [vector(name, "message", encode(message)) for name, message in samples.MESSAGES.items()]
    infer.append(vector("terms", "terms", encode(samples.terms())))
    offers = [vector(name, "offer message", encode(each)) for name, each in samples.OFFER_MESSAGES.items()]
    offers.append(vector("offer", "offer", o.encode_offer(samples.offer())))
    offers.append(vector("offer_of_nothing", "offer", o.encode_offer(samples.offer(models=()))))
    offers.append(vector("offers_told", "offers told", encode(samples.OFFER_MESSAGES["told"])))
    receipts = []
    for name, receipt in RECEIPTS.items():
        half, both = samples.signed(receipt), samples.signed(receipt, both=True)
        receipts.append(vector(name, "receipt", encode(receipt)))
        receipts.append(vector(f"{name}_signed_by_one", "signed receipt", r.encode_signed(half)))
        receipts.append(vector(f"{name}_signed_by_both", "signed receipt", r.encode_signed(both)))
        receipts.append(vector(f"{name}_checked", "checked receipt", r.encode_signed(both)))
    receipts.append(vector("on_top_of_usual", "checked receipt", r.encode_signed(samples.SECOND)))
    bodies = [vector(name, "body", encode_body(body)) for name, body in BODIES.items()]
    return {"infer_v1": infer, "offer_v1": offers, "receipt_v1": receipts, "body_v1": bodies}


def later() -> list[Vector]:
    """What a made-up version 2 says: the same with fields appended, which today's code takes and ignores."""
    future = msgspec.msgpack.encode(["later", 2, {"field": None}])

    def longer(data: bytes) -> bytes:
        return bytes([data[0] + 1]) + data[1:] + future if data[0] < 0x9F else longer_by_two_bytes(data)

    def longer_by_two_bytes(data: bytes) -> bytes:
        return b"\xdc" + (data[0] - 0x8F).to_bytes(2, "big") + data[1:] + future

    found = [
        vector(f"{name}_v2", "message", longer(encode(each)))
        for name, each in samples.MESSAGES.items()
        if not name.startswith("events")
    ]
    hello = encode(samples.hello(samples.CALLER, version=2))
    found.append(vector("hello_of_version_2", "message", longer(hello)))
    event = {"type": "TextDelta", "text": "hi", "token_ids": [5], "weights": b"w", "later": {"a": [1.5]}}
    found.append(vector("event_v2", "message", msgspec.msgpack.encode(["events", [[1, event]]])))
    found.append(vector("terms_v2", "terms", longer(encode(samples.terms()))))
    offered = longer(encode(samples.offer()))
    found.append(vector("offer_v2", "offer", offered))
    told = encode(o.Told((o.Passed(samples.signed_offer(offered), 5),)))
    found.append(vector("told_v2", "offers told", longer(told)))
    return found
