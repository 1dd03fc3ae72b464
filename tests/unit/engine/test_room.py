"""The room that a pool has when nobody told it otherwise."""

from __future__ import annotations

from meshnode.engine.room import Tenant, boundless
from tests.kit.requests import card


def test_a_boundless_room_takes_everybody() -> None:
    huge = card("huge", size=1 << 60)
    assert boundless(huge, [Tenant(huge, settled=True)] * 100, []).fits
