"""A node kept busy for a long time by clients that come, leave and ask for all kinds of things; every answer checked.

First each greedy request of the stock is asked alone. Then the clients come. In the end the node must be at rest, its
memory flat, every answer of the form that was asked for, without a neighbour's words in it, and each greedy one equal
to what it was alone, but where two tokens were as good as equally likely. See ``scripts/soak --help``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import trio

from benchmark import streams
from benchmark.nodes import Node, NodeError, model_path
from benchmark.servers import interruptible, tree
from benchmark.soak_asks import Ask, draw, stock
from benchmark.soak_judge import drift, faults, foreign, margin
from benchmark.soak_report import Checks, Sample, checked, lines
from benchmark.streams import Answer, LoadError
from meshnode.gateway.keys import hash_of, new_key

HUNG_S: Final = 300.0
"""An answer that has not ended by then never will."""
REST_S: Final = 60.0
"""By then after the last answer, the node must be at rest."""
SAMPLES: Final = 400
KEYS: Final = 3


@dataclass
class Soak:
    """What came of it so far."""

    alone: list[Answer]
    codes: set[str]
    keys: list[str]
    checks: Checks = field(default_factory=Checks)

    async def one(self, client: httpx2.AsyncClient, ask: Ask, key: str) -> None:
        """Ask, read, judge."""
        self.codes.add(ask.code)
        self.checks.asked[ask.kind] += 1
        answer = Answer(0.0)
        with trio.move_on_after(HUNG_S if ask.leaves_after is None else ask.leaves_after) as patience:
            try:
                await streams.read(client, ask.body, answer, key)
            except (LoadError, httpx2.HTTPError) as error:
                self._failed(ask, error)
                return
        if patience.cancelled_caught:
            self._cut(ask, answer)
        elif ask.refused is not None:
            self.checks.faults.append(f"{ask.kind}: answered, where {ask.refused} had to come")
        else:
            self._ended(ask, answer)

    def _failed(self, ask: Ask, error: Exception) -> None:
        code = getattr(error, "code", "") or type(error).__name__
        self.checks.errors[code] += 1
        if code != ask.refused:
            self.checks.faults.append(f"{ask.kind}: {error!r}")

    def _cut(self, ask: Ask, answer: Answer) -> None:
        if ask.leaves_after is None:
            self.checks.faults.append(f"{ask.kind}: no end within {HUNG_S:.0f} s")
        self.checks.left += 1
        self.checks.faults += [
            f"{ask.kind}: the code word {code} of another request" for code in foreign(ask, answer, self.codes)
        ]

    def _ended(self, ask: Ask, answer: Answer) -> None:
        self.checks.finishes.update(answer.finishes.values())
        self.checks.faults += faults(ask, answer, self.codes)
        self.checks.tokens += answer.tokens
        if ask.stock is None:
            return
        alone = self.alone[ask.stock]
        apart = margin(alone.chosen, answer.chosen)
        self.checks.drifts.append(drift(alone.chosen, answer.chosen))
        if apart is not None:
            self.checks.margins.append(apart)
        elif alone.text == answer.text:
            self.checks.equal += 1
        else:
            self.checks.faults.append("greedy: the same tokens as alone, but another text")


async def run(node: Node, given: argparse.Namespace, keys: list[str]) -> Checks:
    """The whole of it against a running node. Raises LoadError where a request fails that runs alone."""
    greedy = stock(given.seed, given.stock)
    async with streams.open_client(node.api.removesuffix("/v1")) as client:
        alone = []
        for number, ask in enumerate(greedy):
            _say(f"alone: {number + 1} of {len(greedy)}")
            alone.append(await streams.read(client, ask.body, None, keys[0]))
        soak = Soak(alone, {ask.code for ask in greedy}, keys)
        _say(f"{given.clients} clients for {given.minutes:g} minutes")
        async with trio.open_nursery() as nursery:
            end = trio.current_time() + 60 * given.minutes
            nursery.start_soon(_watch, node, soak.checks, end)
            for number in range(given.clients):
                nursery.start_soon(_visit, client, soak, greedy, random.Random(f"{given.seed} {number}"), end)
        soak.checks.rest = await _at_rest(client)
    return soak.checks


async def _visit(client: httpx2.AsyncClient, soak: Soak, greedy: list[Ask], rng: random.Random, end: float) -> None:
    """One client: it asks, thinks, and asks again."""
    while trio.current_time() < end:
        await trio.sleep(rng.expovariate(1.0))
        await soak.one(client, draw(rng, greedy), rng.choice(soak.keys))


async def _watch(node: Node, checks: Checks, end: float) -> None:
    """Memory of the daemon and of its workers, now and then; a word now and then too."""
    began = trio.current_time()
    every = max(0.5, (end - began) / SAMPLES)
    while (now := trio.current_time()) < end:
        resident = [held for _, held in tree(node.pid)]
        checks.samples.append(Sample(now - began, resident[0], sum(resident[1:])))
        if len(checks.samples) % 20 == 1:
            _say(f"{now - began:.0f} s: {sum(checks.asked.values())} asked, {len(checks.faults)} faults")
        await trio.sleep(every)


async def _at_rest(client: httpx2.AsyncClient) -> Mapping[str, Any]:
    """What still runs, waits or holds cells once nobody asks any more; all zero, or as it was when time ran out."""
    deadline = trio.current_time() + REST_S
    while True:
        status = (await client.get("/api/status")).json()
        (model,) = status["models"]
        busy = {key: model[key] for key in ("running", "waiting", "kv_used")}
        busy |= {key: status[key] for key in ("generating", "queued")}
        if not any(busy.values()) or trio.current_time() > deadline:
            return busy | {"restarts": model["restarts"]}
        await trio.sleep(0.2)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="soak", description="Keeps a node busy and checks every answer. Exits 1 where something was wrong."
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the clients come")
    parser.add_argument("--clients", type=int, default=12, help="clients side by side")
    parser.add_argument("--seed", type=int, default=1, help="draws all requests")
    parser.add_argument("--stock", type=int, default=80, help="different greedy requests, each asked alone first")
    parser.add_argument("--model", help="GGUF file [SmolLM2]")
    parser.add_argument("--slots", type=int, default=8, help="requests that run side by side")
    parser.add_argument("--context", type=int, default=8192, help="context in tokens, for all together")
    cache_help = "MiB that idle conversations may take; little, so that they are full before memory is judged"
    parser.add_argument("--cache-ram", type=int, default=64, help=cache_help)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="CPU threads")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the counts and samples as JSON too")
    return parser.parse_args(words)


def soaked(given: argparse.Namespace) -> Checks:
    """Start a node, run the soak, end the node. Raises NodeError or LoadError."""
    model = model_path(given.model)
    with tempfile.TemporaryDirectory(prefix="meshnode-soak-") as folder:
        keys = [new_key(os.urandom(32)) for _ in range(KEYS)]
        ring = Path(folder) / "keys"
        ring.write_text("".join(hash_of(key) + "\n" for key in keys), encoding="ascii")
        node = Node(
            "soak", Path(folder), "--model", str(model), "--slots", str(given.slots), "--context", str(given.context),
            "--threads", str(given.threads), "--engine-threads-batch", str(given.threads), "--api-key-file", str(ring),
            "--engine-cache-ram", str(given.cache_ram),
        )  # fmt: skip
        try:
            node.start()
            return streams.in_trio(run, node, given, keys)
        finally:
            node.stop()


def main() -> None:
    """Soak, print, write."""
    given = arguments()
    interruptible()
    try:
        checks = soaked(given)
    except (NodeError, LoadError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n".join(lines(checks)))
    if given.json:
        given.json.write_text(json.dumps(checks.as_json(), indent=1), encoding="utf-8")
    sys.exit(0 if all(check.right for check in checked(checks)) else 1)
