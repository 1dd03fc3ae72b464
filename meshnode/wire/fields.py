"""Types of the fields that messages between peers have, each with its bounds. Pure.

A length is checked before anything is done with a value, so that no message costs more than its frame. Integers stay
below 2**63, the largest that a database column holds.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from meshnode.domain import Record

UINT: Final = (1 << 63) - 1
"""The largest integer on the wire."""

U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=UINT)]
Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)]
"""Which request of a session; never used twice."""
Net = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
"""Which network: :func:`meshnode.identity.network_tag`."""
Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""A raw Ed25519 public key."""
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Sig = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
"""An Ed25519 signature."""
Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""A model id, a request id, a peer id."""
Word = Annotated[str, msgspec.Meta(max_length=64)]
"""An error code, a label, a version."""
Line = Annotated[str, msgspec.Meta(max_length=500)]
"""A sentence for people."""


class Wire(Record, frozen=True, array_like=True):
    """Base of what travels: an array, whose fields have an order; later versions append, never insert."""


class Prices(Wire, frozen=True):
    """Micro-credits: per prompt token, per prompt token that was cached, per output token; at least ``request_uc``.

    ``request_uc`` is what a request costs however short it is.
    """

    input_uc: U63
    cached_uc: U63
    output_uc: U63
    request_uc: U63
