"""Points of edwards25519 that are no keys: whose multiples are so few that anybody can sign for them. Pure.

The curve has eight points whose order divides 8 (the cofactor, RFC 8032 section 5.1). With one of them as a public key
there are signatures that are good for any message, and libraries take them (Chalkias, Garillot and Nikolaenko 2020,
"Taming the many EdDSAs").
"""

from __future__ import annotations

from typing import Final

KEY_BYTES: Final = 32

_P: Final = 2**255 - 19
_ORDER_8: Final = (
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
# y of the eight points; x has either sign, and two of them fit into 255 bits a second time, p higher
_SMALL_ORDER: Final = frozenset(y.to_bytes(KEY_BYTES, "little") for y in (0, 1, _P - 1, _P, _P + 1, *_ORDER_8))


def of_small_order(public_key: bytes) -> bool:
    """Whether 32 bytes encode, in any way, one of the eight points whose order divides 8; false for other lengths."""
    return len(public_key) == KEY_BYTES and public_key[:31] + bytes([public_key[31] & 0x7F]) in _SMALL_ORDER
