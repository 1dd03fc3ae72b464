"""How soon a model that is published can be used by a node that knows only one other and never asked before."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import trio

from benchmark.mesh_node import BenchNode, open_node, request
from benchmark.mesh_streams import listed, quantile
from benchmark.nodes import NodeError
from meshnode.domain import ModelId
from meshnode.errors import MeshnodeError
from meshnode.events import TextDelta
from meshnode.process import spare_collector
from meshnode.storage.database import open_inline

MOST_S: Final = 5.0
STEP_S: Final = 0.005
MODEL: Final = "news"
REST_S: Final = 0.5
RETRY_S: Final = 0.1
TRY_S: Final = 60.0


class Published(NamedTuple):
    """Seconds from the deed to the first token, of ``tries``, and to when the model was listed."""

    what: str
    nodes: int
    tries: int
    p50_s: float
    p95_s: float
    worst_s: float
    listed_p50_s: float
    refused: int
    """Times that who was listed refused."""
    load: float


class _Try(NamedTuple):
    """Seconds from the deed to when the model was listed, and to the first token; asks that were refused between."""

    listed_s: float
    used_s: float
    refused: int


def published(nodes: int, tries: int) -> list[Published]:
    """Among so many nodes around a hub, all of them in this process, over libp2p. Raises NodeError."""
    return trio.run(_published, nodes, tries)


async def _published(nodes: int, tries: int) -> list[Published]:
    load = os.getloadavg()[0]
    async with AsyncExitStack() as stack:
        hub = await _open(stack)
        others = [await _open(stack, f"other-{number}", join=[hub.address]) for number in range(nodes - 3)]
        owner = await _open(stack, MODEL, join=[hub.address], nothing_served=True)
        for node in (*others, owner):
            for number in range(len(others)):
                if node is not others[number]:
                    await listed(node, f"other-{number}")
        spare_collector()  # as a node does
        served = [await _serve(hub, owner) for _ in range(tries)]
        joined = [await _join(hub) for _ in range(tries)]
    return [
        _figures(f"a model is {what}", nodes, times, load)
        for what, times in (("served", served), ("brought by a node that joins", joined))
    ]


async def _open(stack: AsyncExitStack, *models: str, join: Sequence[str] = (), **how: bool) -> BenchNode:
    database = await stack.enter_async_context(open_inline())
    return await stack.enter_async_context(open_node(database, *models, join=join, step_s=STEP_S, **how))


async def _serve(hub: BenchNode, owner: BenchNode) -> _Try:
    """A node that is there begins to serve; afterwards it serves nothing again."""
    async with AsyncExitStack() as stack:
        asking = await _asking(stack, hub)
        began = time.monotonic()
        await owner.peering.serve(MODEL, True)
        found = await _first_token(asking, began)
    await owner.peering.serve(ModelId(MODEL), False)
    return found


async def _join(hub: BenchNode) -> _Try:
    """A node with a model joins, and leaves afterwards."""
    async with AsyncExitStack() as stack:
        asking = await _asking(stack, hub)
        began = time.monotonic()
        await _open(stack, MODEL, join=[hub.address])
        return await _first_token(asking, began)


async def _asking(stack: AsyncExitStack, hub: BenchNode) -> BenchNode:
    """A node that joined the hub and asks nothing yet."""
    asking = await _open(stack, join=[hub.address], client_only=True)
    await listed(asking, "other-0")
    with trio.fail_after(TRY_S):
        while asking.lists(MODEL):  # noqa: ASYNC110  of the last try; there is no event to wait for
            await trio.sleep(0.05)
    await trio.sleep(REST_S)
    return asking


async def _first_token(asking: BenchNode, began: float) -> _Try:
    """Ask as soon as the model is listed, and again when that is refused."""
    await listed(asking, MODEL)
    seen, refused = time.monotonic() - began, 0
    while not await _answered(asking):
        refused += 1
        if time.monotonic() > began + TRY_S:
            raise NodeError(f"a model that is listed was not answered within {TRY_S:g} s.")
        await trio.sleep(RETRY_S)
    return _Try(seen, time.monotonic() - began, refused)


async def _answered(asking: BenchNode) -> bool:
    """Whether an answer's first token came."""
    with contextlib.suppress(MeshnodeError):
        async with asking.peering.dispatcher.open(request(MODEL, 1, 4)) as answer:
            async for event in answer:
                if isinstance(event, TextDelta):
                    return True
    return False


def _figures(what: str, nodes: int, times: Sequence[_Try], load: float) -> Published:
    seen, used = sorted(one.listed_s for one in times), sorted(one.used_s for one in times)
    p50, p95, worst = (quantile(used, part) for part in (0.5, 0.95, 1.0))
    refused = sum(one.refused for one in times)
    return Published(what, nodes, len(times), p50, p95, worst, quantile(seen, 0.5), refused, load)
