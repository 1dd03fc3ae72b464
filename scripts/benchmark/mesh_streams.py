"""How many streams of a fixed rate two nodes carry: delays from the moment a token was due, and CPU per token."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio

from benchmark.mesh_engine import STAMP
from benchmark.mesh_node import BenchNode, open_node, request
from benchmark.mesh_provider import MODEL, Provider, cpu_s, provider
from benchmark.nodes import Node, NodeError, ended
from meshnode.errors import MeshnodeError
from meshnode.events import Failed, TextDelta
from meshnode.process import spare_collector
from meshnode.storage.database import open_threaded

RATE: Final = 20
MOST_DELAY_MS: Final = 100.0
LEAST_RATE: Final = 0.99
"""Of the tokens that are due in the time measured, these must arrive."""
STARTS_PER_S: Final = 200
SETTLE_S: Final = 3.0
LISTED_S: Final = 15.0
ENDLESS: Final = 30_000


class Level(NamedTuple):
    """What so many streams did. CPU in microseconds per token; ``load`` is the load average before it began."""

    streams: int
    rate: float
    """Tokens that arrived, of those that were due."""
    p50_ms: float
    p99_ms: float
    worst_ms: float
    caller_us: float
    provider_us: float
    failures: int
    load: float

    @property
    def held(self) -> bool:
        """Whether it is within the bar."""
        return self.p99_ms < MOST_DELAY_MS and self.rate >= LEAST_RATE and not self.failures


class Window:
    """What is collected while it is open: delays in microseconds."""

    def __init__(self) -> None:
        self.open = False
        self.delays = array("q")
        self.failures = 0

    def note(self, stamp: str | bytes) -> None:
        """A token came whose stamp is the microsecond in which it was due."""
        if self.open:
            self.delays.append(time.monotonic_ns() // 1000 - int(stamp))


def search(levels: Sequence[int], seconds: float, attempts: int, *, over_http: bool = False) -> list[Level]:
    """Measure one level after the other, until one is not held in any of so many attempts. Raises NodeError.

    Each attempt is in the list: on a machine that does other things as well some fail for that alone.
    """
    found: list[Level] = []
    for streams in levels:
        for _ in range(attempts):
            with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as folder:
                measure = _over_http if over_http else _in_process
                found.append(measure(Path(folder), streams, seconds))
            if found[-1].held:
                break
        else:
            break
    return found


def _in_process(folder: Path, streams: int, seconds: float) -> Level:
    """The caller is this process, and reads at its dispatcher."""
    load = os.getloadavg()[0]
    with provider(folder) as serving:
        return trio.run(_ask_many, folder, serving, streams, seconds, load)


async def _ask_many(folder: Path, serving: Provider, streams: int, seconds: float, load: float) -> Level:
    window = Window()
    async with (
        open_threaded(folder / "caller.db") as database,
        open_node(database, join=[serving.address], client_only=True) as node,
        trio.open_nursery() as nursery,
    ):
        await listed(node, MODEL)
        spare_collector()  # as a node does
        for number in range(streams):
            nursery.start_soon(_read, node, number, window)
            await trio.sleep(1 / STARTS_PER_S)
        level = await measured(window, streams, seconds, load, (os.getpid(), serving.pid))
        nursery.cancel_scope.cancel()
    return level


async def listed(node: BenchNode, model: str) -> None:
    """Wait until a node knows who serves ``model``. Raises NodeError."""
    with trio.move_on_after(LISTED_S):
        while not node.lists(model):  # noqa: ASYNC110  there is no event to wait for
            await trio.sleep(0.005)
        return
    raise NodeError(f"{model} was not listed within {LISTED_S:g} s.")


async def _read(node: BenchNode, number: int, window: Window) -> None:
    try:
        async with node.peering.dispatcher.open(request(MODEL, number, ENDLESS)) as answer:
            async for event in answer:
                if isinstance(event, TextDelta):
                    window.note(event.text[1:-1])
                elif isinstance(event, Failed):
                    window.failures += 1
    except MeshnodeError:
        window.failures += 1


async def measured(window: Window, streams: int, seconds: float, load: float, pids: tuple[int, int]) -> Level:
    """Wait until all is under way, and collect for some seconds."""
    await trio.sleep(SETTLE_S)
    before, began = [cpu_s(pid) for pid in pids], trio.current_time()
    window.open = True
    await trio.sleep(seconds)
    window.open = False
    took, delays = trio.current_time() - began, sorted(window.delays)
    count = max(1, len(delays))
    caller, serving = ((cpu_s(pid) - at) * 1e6 / count for pid, at in zip(pids, before, strict=True))
    p50, p99, worst = (quantile(delays, part) / 1000 for part in (0.5, 0.99, 1.0))
    return Level(streams, count / (streams * RATE * took), p50, p99, worst, caller, serving, window.failures, load)


def quantile(ordered: Sequence[float], part: float) -> float:
    """Of numbers in order: the first that so great a part is not above; infinite where there is none."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else math.inf


# --- through the API --------------------------------------------------------------------------------


def _over_http(folder: Path, streams: int, seconds: float) -> Level:
    """A client-only node asks; this process reads its streams of server-sent events."""
    load = os.getloadavg()[0]
    flags = ("--client-only", "--api-max-generating", "4096", "--api-max-connections", "8192")
    node = Node("caller", folder, *flags)
    with provider(folder) as serving, ended([node]):
        node.start("--join", serving.address)
        deadline = time.monotonic() + LISTED_S
        while MODEL not in node.models():
            if time.monotonic() > deadline:
                raise NodeError(f"{MODEL} was not listed within {LISTED_S:g} s.")
            time.sleep(0.05)
        return trio.run(_read_many, node, serving, streams, seconds, load)


async def _read_many(node: Node, serving: Provider, streams: int, seconds: float, load: float) -> Level:
    window = Window()
    host, _, port = node.api.removeprefix("http://").removesuffix("/v1").rpartition(":")
    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(read_events, host, int(port), window)
            await trio.sleep(1 / STARTS_PER_S)
        level = await measured(window, streams, seconds, load, (node.pid, serving.pid))
        nursery.cancel_scope.cancel()
    return level


async def read_events(host: str, port: int, window: Window, *, model: str = MODEL) -> None:
    """One client, as cheap as can be: it looks for stamps and parses nothing."""
    body = json.dumps({"model": model, "prompt": "a prompt", "max_tokens": ENDLESS, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    rest = ""
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while data := await stream.receive_some():
            whole, _, rest = (rest + data.decode("latin-1")).rpartition("\n")
            for stamp in STAMP.findall(whole):
                window.note(stamp)
    window.failures += 1
