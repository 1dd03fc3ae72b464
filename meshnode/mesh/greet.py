"""How two ends of ``/meshnode/infer/1`` get to know each other: versions, networks, ledger keys, newest receipts.

A ledger key is another than the peer's, so that one can be replaced without the other. It is bound to this stream by
signing both peer ids and a fresh nonce of each end; receipts of a channel are believed only after that. Nothing is
signed for a channel before both ends have shown their newest receipts, so that a node restored from a backup learns
what it had signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import trio

from meshnode.domain import PeerId
from meshnode.errors import PeerError, ProtocolViolation, StreamReset
from meshnode.identity import Identity, of_small_order, verify
from meshnode.mesh.asker import PeerHung
from meshnode.mesh.talk import Talk
from meshnode.wire import messages as m
from meshnode.wire.receipt import SignedReceipt, decode_signed, encode_signed
from meshnode.wire.session import Role

PATIENCE_S: Final = 10.0
_NONCE_BYTES: Final = 16


class Self(NamedTuple):
    """What this node is to its peers; ``entropy`` gives random bytes, ``max_open`` is what a caller may have open."""

    identity: Identity
    network: bytes
    software: str
    max_open: int
    entropy: Callable[[int], bytes]


class Greeted(NamedTuple):
    """What a greeting told: the peer's ledger key, proved, the receipts it holds, how many requests it lets us open."""

    ledger: bytes
    receipts: tuple[SignedReceipt, ...]
    max_open: int


async def greet(talk: Talk, us: Self, newest: Callable[[bytes], Awaitable[Sequence[SignedReceipt]]]) -> Greeted:
    """Introduce ourselves on a fresh stream, whose writing task must be running.

    ``newest`` gives our receipts of the channels with a ledger key. Raises ProtocolViolation (another network, an
    unknown version, a proof that is none), PeerHung, StreamReset for a good-bye, and what the stream raises.
    """
    nonce = us.entropy(_NONCE_BYTES)
    talk.say(m.Hello(m.VERSION, us.network, us.identity.ledger_public, nonce, us.software[:64], us.max_open))
    hello = await _heard(talk)
    if not isinstance(hello, m.Hello):
        raise _farewell(hello)
    _check(hello, us)
    ours = await newest(hello.ledger)
    bonds = _bonds(talk, us, nonce, hello)
    held = tuple(encode_signed(receipt) for receipt in ours[: m.RECEIPTS_IN_PROOF])
    talk.say(m.Proof(us.identity.sign_for_ledger(bonds[0]), held))
    proof = await _heard(talk)
    if not isinstance(proof, m.Proof):
        raise _farewell(proof)
    if not verify(hello.ledger, proof.signature, bonds[1]):
        raise ProtocolViolation("did not prove its ledger key.")
    return Greeted(hello.ledger, tuple(decode_signed(data) for data in proof.newest), hello.max_open)


async def _heard(talk: Talk) -> m.Message:
    """The next message, in time; our own disk is not waited for in it."""
    with trio.move_on_after(PATIENCE_S):
        return await talk.hear()
    raise PeerHung(f"did not introduce itself within {PATIENCE_S:g} s.")


def _check(hello: m.Hello, us: Self) -> None:
    if hello.version < m.VERSION:
        raise ProtocolViolation(f"speaks version {hello.version}; {m.VERSION} is the first there is.")
    if hello.network != us.network:
        raise ProtocolViolation("is of another network.")
    if of_small_order(hello.ledger) or hello.ledger == us.identity.ledger_public:
        raise ProtocolViolation("has a ledger key that cannot be its own.")


def _bonds(talk: Talk, us: Self, nonce: bytes, hello: m.Hello) -> tuple[bytes, bytes]:
    """What we sign, and what the other end must have signed."""
    mine, theirs = us.identity.peer_id, talk.peer
    we_ask = talk.role is Role.CALLER

    def bond(ledger: bytes) -> bytes:
        return m.bond(
            caller=mine if we_ask else theirs,
            provider=theirs if we_ask else mine,
            caller_nonce=nonce if we_ask else hello.nonce,
            provider_nonce=hello.nonce if we_ask else nonce,
            ledger=ledger,
        )

    return bond(us.identity.ledger_public), bond(hello.ledger)


def _farewell(message: m.Message) -> PeerError:
    """Why a message that is no greeting ends the session."""
    if isinstance(message, m.Bye):
        return StreamReset(f"said good-bye: {message.code}.")
    return ProtocolViolation("did not introduce itself.")


def short(peer: PeerId) -> str:
    """A peer id as people can tell it from others: ``12D3…`` and its last six characters."""
    return f"{peer[:4]}…{peer[-6:]}"
