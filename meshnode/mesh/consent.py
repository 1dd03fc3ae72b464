"""What being in a mesh means for an owner, in one sentence: said when a node joins, and at each start. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

UNDO: Final = "(`meshnode unserve MODEL` keeps one back; `meshnode leave` undoes this)"
NOW: Final = f"Strangers of this network may now use this node's models {UNDO}."
LASTING: Final = f"Strangers of this network may use this node's models {UNDO}."
NONE_SERVED: Final = (
    "Strangers of this network may use none of this node's models "
    "(`meshnode serve MODEL` lends one; `meshnode leave` undoes this)."
)
ONLY_USES: Final = (
    "This node only uses what others serve, and serves nothing itself; "
    "whoever computes an answer can read its prompt (`meshnode leave` undoes this)."
)
ALONE: Final = "alone: `meshnode join ADDR` (a network's first node: `meshnode up --open`)"


def on_joining(*, client_only: bool, served: Sequence[bool]) -> str:
    """What ``join`` says. ``served`` holds, for each model of this node, whether strangers may use it.

    A node without models counts as one that serves them: those it gets will be.
    """
    return f"Joined. {_meaning(client_only, served, NOW)}"


def at_start(*, joined: bool, network: str, peers: int, client_only: bool, served: Sequence[bool]) -> str:
    """What the banner says: alone, or which network, how many ``peers`` are connected, and what that means."""
    if not joined:
        return ALONE
    met = {0: "no peer yet", 1: "1 peer"}.get(peers, f"{peers} peers")
    return f"{network}, {met}. {_meaning(client_only, served, LASTING)}"


def _meaning(client_only: bool, served: Sequence[bool], serving: str) -> str:
    if client_only:
        return ONLY_USES
    return NONE_SERVED if served and not any(served) else serving
