"""The messages of ``/meshnode/infer/1``: one stream from a caller to a provider, many numbered requests on it.

    both         hello  proof  beat  bye
    caller       ask  body  credit  tick  cancel
    provider     accept | refuse  events  receipt

Each is a MessagePack array that begins with its name, in one frame of :mod:`meshnode.wire.frames`. Which may come when
is judged by :mod:`meshnode.wire.session`, and by nothing else. Fields that a later version appends are ignored.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from meshnode.events import Event
from meshnode.wire.canonical import encode, tolerant
from meshnode.wire.fields import U32, U63, Hash, Key, Line, Name, Net, Nonce, Number, Prices, Sig, Wire, Word
from meshnode.wire.receipt import LONGEST

PROTOCOL: Final = "/meshnode/infer/1"
VERSION: Final = 1
FRAME: Final = 1 << 20
"""Bytes of one frame at most."""
BODY_PART: Final = 256 << 10
"""Bytes of a request's body in one frame at most."""
MAX_BODY: Final = 8 << 20
"""Bytes of a whole body that this version takes; its offer says so."""
RECEIPTS_IN_PROOF: Final = 16
MARKS: Final = 4096

Credit_ = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
_Encoded = Annotated[bytes, msgspec.Meta(max_length=LONGEST)]


class Hello(Wire, frozen=True, tag="hello"):
    """Who speaks, of which network; ``ledger`` is believed once :class:`Proof` has come.

    ``max_open`` is how many requests its sender lets the other have open at a time.
    """

    version: U32
    network: Net
    ledger: Key
    nonce: Nonce
    software: Word = ""
    max_open: U32 = 0


class Proof(Wire, frozen=True, tag="proof"):
    """The ledger key speaks for this peer on this stream: it signed :func:`bond`.

    ``newest`` are signed receipts of the channels between the two, as many as matter: the newest, and the newest that
    both signed.
    """

    signature: Sig
    newest: Annotated[tuple[_Encoded, ...], msgspec.Meta(max_length=RECEIPTS_IN_PROOF)] = ()


class AskTerms(Wire, frozen=True, tag="mn/ask/1"):
    """What a caller asks for and will pay; signed by its ledger key, behind ``"mn/ask/1\\0"``.

    ``provider`` is the peer asked, ``body_sha256`` commits to the request itself, which travels only once it is
    accepted. ``prompt_tokens`` is an estimate, ``max_tokens`` 0 means as many as the context holds. ``prices`` are
    those of the provider's offer as the caller knows them, ``max_cost_uc`` 0 sets no bound. ``deadline_ms`` counts from
    when the message arrives.
    """

    network: Net
    provider: Name
    request: Name
    kind: Word
    model: Name
    body_sha256: Hash
    body_bytes: U32
    prompt_tokens: U32
    max_tokens: U32
    features: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)]
    privacy: Word
    max_cost_uc: U63
    deadline_ms: U63
    prices: Prices


class Ask(Wire, frozen=True, tag="ask"):
    """May I send request ``number``? ``terms`` is an encoded :class:`AskTerms`, ``credit`` a first grant of tokens."""

    number: Number
    terms: Annotated[bytes, msgspec.Meta(max_length=8192)]
    signature: Sig
    credit: Credit_


class Accept(Wire, frozen=True, tag="accept"):
    """A place is kept: send the body."""

    number: Number


class Refuse(Wire, frozen=True, tag="refuse"):
    """No; ``code`` is that of a class in :mod:`meshnode.errors`. ``alternates`` are peers that may take it."""

    number: Number
    code: Word
    reason: Line = ""
    retry_after_ms: U32 = 0
    alternates: Annotated[tuple[Name, ...], msgspec.Meta(max_length=8)] = ()


class Body(Wire, frozen=True, tag="body"):
    """A part of the request: an encoded :class:`meshnode.wire.body.Body`."""

    number: Number
    data: Annotated[bytes, msgspec.Meta(max_length=BODY_PART)]
    last: bool


class Events(Wire, frozen=True, tag="events"):
    """What one engine step gave, of every request in it. ``Finished`` or ``Failed`` closes a request."""

    items: Annotated[tuple[tuple[Number, Event], ...], msgspec.Meta(min_length=1)]


class Credit(Wire, frozen=True, tag="credit"):
    """So many more tokens of a request may be sent."""

    items: Annotated[tuple[tuple[Number, Credit_], ...], msgspec.Meta(min_length=1, max_length=MARKS)]


class Mark(Wire, frozen=True):
    """How far a request is paid with the tick that carries this: prompt tokens computed, cached, and output tokens."""

    number: Number
    prompt: U32
    cached: U32
    output: U32


class Tick(Wire, frozen=True, tag="tick"):
    """A receipt signed by the caller that covers all requests of the session, and what it says of each that moved."""

    receipt: _Encoded
    marks: Annotated[tuple[Mark, ...], msgspec.Meta(max_length=MARKS)] = ()


class Countersigned(Wire, frozen=True, tag="receipt"):
    """The newest receipt with both signatures."""

    receipt: _Encoded


class Cancel(Wire, frozen=True, tag="cancel"):
    """The caller wants no more of a request; the provider still closes it."""

    number: Number


class Beat(Wire, frozen=True, tag="beat"):
    """Alive, with nothing to say."""


class Bye(Wire, frozen=True, tag="bye"):
    """The session ends after this, and why."""

    code: Word
    reason: Line = ""


Message = Hello | Proof | Ask | Accept | Refuse | Body | Events | Credit | Tick | Countersigned | Cancel | Beat | Bye

_MESSAGE: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_TERMS: Final = msgspec.msgpack.Decoder(AskTerms)


def decode(data: bytes) -> Message:
    """One message. Raises ProtocolViolation."""
    return tolerant(data, _MESSAGE, what="a message")


def decode_terms(data: bytes) -> AskTerms:
    """What an ask says. Raises ProtocolViolation."""
    return tolerant(data, _TERMS, what="an ask")


def terms_payload(terms: bytes) -> bytes:
    """What the caller signs of an ask."""
    return b"mn/ask/1\0" + terms


def bond(*, caller: str, provider: str, caller_nonce: bytes, provider_nonce: bytes, ledger: bytes) -> bytes:
    """What a ledger key signs to speak for its peer on one stream: both peer ids and both nonces.

    libp2p does not show the handshake's hash; two fresh nonces bind the signature to this stream as well.
    """
    return b"mn/bond/1\0" + encode([caller, provider, caller_nonce, provider_nonce, ledger])
