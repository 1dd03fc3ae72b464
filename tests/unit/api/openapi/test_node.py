"""What the node tells of itself is open."""

from __future__ import annotations

from meshnode.api.guard import OPEN_PATHS
from meshnode.api.openapi.endpoint import Access
from meshnode.api.openapi.node import NODE


def test_these_are_for_everybody() -> None:
    assert {each.access for each in NODE} == {Access.OPEN}
    assert {each.path for each in NODE} >= OPEN_PATHS
