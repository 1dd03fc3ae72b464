"""The shapes that ``api`` sees are those that dispatchers give."""

from __future__ import annotations

import msgspec

from meshnode.domain import ModelId
from meshnode.mesh.answer import Answer, Dispatcher, Route
from meshnode.mesh.dispatch import MeshDispatcher
from meshnode.mesh.failover import Failover
from meshnode.mesh.local import LocalDispatcher


def test_a_route_travels_as_msgpack() -> None:
    route = Route(kind="peer", model=ModelId("m"), node="bob", attempts=3, reason="nearest")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(route), type=Route) == route


def test_both_dispatchers_are_some() -> None:
    """Held by the type checker: these lines have to pass it."""
    dispatchers: list[type[Dispatcher]] = [LocalDispatcher, MeshDispatcher]
    answer: type[Answer] = Failover
    assert (len(dispatchers), answer) == (2, Failover)
