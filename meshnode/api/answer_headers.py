"""What an answer cost, where its caller can see it: headers, the last chunk, a comment at a stream's end. Pure.

Amounts are micro-credits. ``x-mesh-cost`` is what the caller owes, ``-upstream`` what this node owes the peer that
answered, and ``x-mesh-margin`` the difference, which is nothing: this node resells at cost. An answer of this node's
own costs nothing and has no receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshnode.api import sse
from meshnode.events import Event, Finished


def settled(finished: Finished) -> Mapping[str, str]:
    """The headers of an answer that is whole."""
    charge = finished.charge
    cost = str(0 if charge is None else charge.cost_uc)
    found = {"x-mesh-cost": cost, "x-mesh-cost-upstream": cost, "x-mesh-margin": "0"}
    return found if charge is None else found | {"x-mesh-receipt": charge.receipt}


def account(finished: Finished) -> Mapping[str, Any]:
    """The ``mesh`` object of a last chunk; nothing where nothing is owed."""
    charge = finished.charge
    return {} if charge is None else {"mesh": {"receipt": charge.receipt, "cost": charge.cost_uc}}


def trailer(event: Event) -> bytes:
    """A comment that ends the stream of an answer which cost something, in any dialect: clients pass over it."""
    if not isinstance(event, Finished) or event.charge is None:
        return b""
    return sse.comment(f"x-mesh-receipt={event.charge.receipt} x-mesh-cost={event.charge.cost_uc}")
