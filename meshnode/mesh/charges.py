"""What each request to a peer cost this node, and which signed receipt pays for it; the newest few, in memory.

A receipt of the ledger is of a whole channel: it says what all requests on it came to. So that one request can be
looked up by an id of its own, this remembers what was delivered for it and the number of the receipt that paid for the
last of it. What is owed does not depend on it: that is on the disk (:mod:`meshnode.ledger.book`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from meshnode.domain import ModelId, PeerId, Record, RequestId
from meshnode.wire.fields import Prices
from meshnode.wire.messages import Mark

MOST: Final = 4096
"""Requests remembered; the oldest is forgotten first."""
_ID_BYTES: Final = 12


class Charged(Record, frozen=True, kw_only=True):
    """One request: what was asked of whom, what was delivered, and up to which receipt it is paid for.

    ``created`` in seconds since 1970, costs in micro-credits; ``provider`` is the ledger key that is paid. ``chan`` and
    ``seq`` are those of the newest receipt that paid for any of it; ``closed`` is whether nothing more can come.
    """

    id: str
    request: RequestId
    model: ModelId
    peer: PeerId
    provider: bytes
    prices: Prices
    created: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_uc: int = 0
    paid_uc: int = 0
    chan: int = 0
    seq: int = 0
    closed: bool = False


class Charges:
    """By id. ``entropy`` gives random bytes, ``wall_clock`` seconds since 1970."""

    def __init__(self, entropy: Callable[[int], bytes], wall_clock: Callable[[], float]) -> None:
        self._entropy = entropy
        self._wall_clock = wall_clock
        self._known: OrderedDict[str, Charged] = OrderedDict()

    def begin(self, request: RequestId, model: ModelId, peer: PeerId, provider: bytes, prices: Prices) -> str:
        """A request is being asked; gives its id."""
        id_ = "rcpt_" + self._entropy(_ID_BYTES).hex()
        self._known[id_] = Charged(
            id=id_,
            request=request,
            model=model,
            peer=peer,
            provider=provider,
            prices=prices,
            created=self._wall_clock(),
        )
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return id_

    def delivered(self, id_: str, mark: Mark, cost_uc: int) -> None:
        """All that comes has come."""
        counts = {"prompt_tokens": mark.prompt, "cached_tokens": mark.cached, "output_tokens": mark.output}
        self._change(id_, cost_uc=cost_uc, closed=True, **counts)

    def paid(self, id_: str, uc: int, chan: int, seq: int) -> None:
        """A receipt was signed that pays for the request up to ``uc``."""
        self._change(id_, paid_uc=uc, chan=chan, seq=seq)

    def find(self, id_: str) -> Charged | None:
        """One request, if it is remembered."""
        return self._known.get(id_)

    def _change(self, id_: str, **fields: object) -> None:
        if (known := self._known.get(id_)) is not None:
            self._known[id_] = msgspec.structs.replace(known, **fields)
