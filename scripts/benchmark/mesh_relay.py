"""What relaying costs: the same requests at a provider's own API and through a client-only node that joined it."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from benchmark.mesh_streams import quantile
from benchmark.nodes import Node, NodeError, ended
from benchmark.streams import body, measure, prompts

MOST_ADDED_MS: Final = 5.0
LEAST_RATIO: Final = 0.97
SLOTS: Final = 16
CONTEXT: Final = 8192
LISTED_S: Final = 20.0


class FirstTokens(NamedTuple):
    """Milliseconds to the first token of short requests in turns, and what relaying added to the pairs."""

    pairs: int
    load: float
    direct_p50: float
    direct_p99: float
    relayed_p50: float
    relayed_p99: float
    added_p50: float
    added_p99: float


class Rates(NamedTuple):
    """Tokens per second of ``streams`` together: medians of rounds, and the median of the rounds' ratios."""

    streams: int
    direct: float
    relayed: float
    ratio: float
    rounds: tuple[float, ...]
    """Each round's ratio."""
    load: float


@contextlib.contextmanager
def pair(model: Path) -> Iterator[tuple[Node, Node]]:
    """A provider with an engine of one thread, and a node without one that lists its model. Raises NodeError."""
    with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as name:
        folder = Path(name)
        serving = ("--slots", str(SLOTS), "--context", str(CONTEXT), "--serve-per-peer", "64", "--serve-requests", "64")
        provider = Node("provider", folder, "--model", str(model), "--open", "--threads", "1", *serving)
        client = Node("client", folder, "--client-only")
        with ended([provider, client]):
            provider.start()
            client.start("--join", provider.address)
            deadline = time.monotonic() + LISTED_S
            while not client.models():
                if time.monotonic() > deadline:
                    raise NodeError(f"the model was not listed within {LISTED_S:g} s.")
                time.sleep(0.05)
            yield provider, client


def first_tokens(provider: Node, client: Node, rounds: int, each: int) -> FirstTokens:
    """``rounds`` times ``each`` pairs of one short request: what they differ by lies between the two APIs."""
    load = os.getloadavg()[0]
    taken: dict[str, list[float]] = {"direct": [], "relayed": []}
    asked = body("Say one word.\nbench", 1)
    with httpx2.Client(trust_env=False, timeout=60) as http:
        roads = {"direct": provider.api, "relayed": client.api}
        for road in (*roads, *roads):
            _first_token(http, roads[road], asked)
        for number in range(rounds * each):
            for road in roads if number % 2 else reversed(roads):
                taken[road].append(_first_token(http, roads[road], asked))
    added = sorted(far - near for far, near in zip(taken["relayed"], taken["direct"], strict=True))
    direct, relayed = sorted(taken["direct"]), sorted(taken["relayed"])
    figures = [1000 * quantile(times, part) for times in (direct, relayed, added) for part in (0.5, 0.99)]
    return FirstTokens(len(added), load, *figures)


def _first_token(http: httpx2.Client, api: str, asked: dict[str, Any]) -> float:
    """Seconds to the first text, over a connection that is kept."""
    began, first = time.perf_counter(), 0.0
    with http.stream("POST", f"{api}/chat/completions", json=asked) as answer:
        for line in answer.iter_lines():
            if not first and line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: ")).get("choices", ())
                if any(choice["delta"].get("content") for choice in choices):
                    first = time.perf_counter() - began
    if not first:
        raise NodeError(f"{api} answered {answer.status_code} without a word.")
    return first


def rates(provider: Node, client: Node, streams: int, rounds: int, tokens: int) -> Rates:
    """Both roads once a round, the other first in every second round. Raises LoadError."""
    load = os.getloadavg()[0]
    found: dict[str, list[float]] = {"direct": [], "relayed": []}
    urls = {"direct": provider.api.removesuffix("/v1"), "relayed": client.api.removesuffix("/v1")}
    for number in range(rounds):
        for turn, road in enumerate(urls if number % 2 else reversed(urls)):
            salt = 1000 * streams + 2 * number + turn
            found[road].append(measure(urls[road], prompts(streams, salt), tokens).tokens_per_s)
    ratios = tuple(far / near for far, near in zip(found["relayed"], found["direct"], strict=True))
    direct, relayed = statistics.median(found["direct"]), statistics.median(found["relayed"])
    return Rates(streams, direct, relayed, statistics.median(ratios), ratios, load)
