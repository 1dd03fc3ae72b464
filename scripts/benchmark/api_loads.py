"""The loads of ``scripts/bench_api``: each puts one kind of work on a node and gives figures by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import trio

from benchmark import streams
from benchmark.api_paced import STEP
from benchmark.api_worker import Worker
from benchmark.figures import slope
from benchmark.mesh_streams import RATE, STARTS_PER_S, Window, measured, read_events
from benchmark.nodes import Node, NodeError
from benchmark.servers import tree
from benchmark.streams import LoadError, body, measure, prompts

STREAMS: Final = 16
PAIRS: Final = 30
CLIENTS: Final = 200
SECONDS: Final = 15.0
DEPARTURES: Final = 8
GONE_S: Final = 20.0
AT_A_TIME: Final = 8
MiB: Final = 1 << 20
_TEXT: Final = re.compile(rb'"content":"[^"]')


def throughput(node: Node, worker: Worker, salt: int, tokens: int) -> dict[str, float]:
    """Sixteen streams through HTTP and in the worker itself, one after the other: tokens per second of each."""
    asked = prompts(STREAMS, salt)
    sides = {
        "http": lambda: measure(_root(node), asked, tokens),
        "worker": lambda: worker.measure([body(prompt, tokens) for prompt in asked], tokens),
    }
    found = {name: sides[name]().tokens_per_s for name in (sides if salt % 2 else reversed(sides))}
    return {"http_tokens_per_s": found["http"], "worker_tokens_per_s": found["worker"]} | {
        "http_share": found["http"] / found["worker"]
    }


def first_token(node: Node, worker: Worker, salt: int) -> dict[str, float]:
    """One request at a time, through HTTP and in the worker in turns: what HTTP adds to the first token."""
    http: list[float] = []
    direct: list[float] = []
    for number in range(PAIRS):
        prompt = f"Count to {number + 3}.\n{salt}-{number}"  # short, so that little noise comes from computing it
        for side in (http, direct) if number % 2 else (direct, http):
            if side is http:
                side.append(_first_text_s(node, body(prompt, 2)))
            else:
                side.append(worker.measure([body(prompt, 2)], 2).first_token_s)
    added = [1000 * (one - other) for one, other in zip(http, direct, strict=True)]
    return {
        "first_http_ms": 1000 * statistics.median(http),
        "first_worker_ms": 1000 * statistics.median(direct),
        "first_added_ms": statistics.median(added),
    }


def departures(node: Node, *, stream: bool) -> dict[str, float]:
    """Clients that leave in mid-answer: seconds until the engine computes nothing any more, the longest of several."""
    kind = "stream" if stream else "whole"
    longest = 0.0
    with httpx2.Client(base_url=_root(node), trust_env=False, timeout=30) as client:
        for number in range(DEPARTURES):
            asked = body(prompts(1, 9000 + number)[0], 1500) | {"stream": stream}
            if not stream:
                del asked["stream_options"]
            with _posted(node, asked):
                _until(client, 1)
                began = time.monotonic()
            _until(client, 0)
            longest = max(longest, time.monotonic() - began)
    return {f"freed_{kind}_s": longest}


def crowd(folder: Path, model: Path) -> dict[str, float]:
    """Two hundred streams of server-sent events of an engine that keeps time: delays from when a token was due."""
    with _paced(folder, model, 1 / RATE) as node:
        return trio.run(_crowd, node)


async def _crowd(node: Node) -> dict[str, float]:
    window = Window()
    host, _, port = _root(node).removeprefix("http://").rpartition(":")
    model = next(iter(node.models()))
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(lambda: read_events(host, int(port), window, model=model))
            await trio.sleep(1 / STARTS_PER_S)
        level = await measured(window, CLIENTS, SECONDS, os.getloadavg()[0], (node.pid, node.pid))
        nursery.cancel_scope.cancel()
    return {
        "crowd_lost": level.failures,
        "crowd_rate": level.rate,
        "crowd_p50_ms": level.p50_ms,
        "crowd_p99_ms": level.p99_ms,
        "crowd_cpu_us": level.caller_us,
    }


def growth(folder: Path, model: Path, requests: int) -> dict[str, float]:
    """So many requests of every kind, one after the other: how the node's memory grew in the second half."""
    with _paced(folder, model, 0.001) as node:
        return trio.run(_growth, node, requests)


async def _growth(node: Node, requests: int) -> dict[str, float]:
    points: list[tuple[float, float]] = []
    done = 0

    async def client(http: httpx2.AsyncClient, first: int) -> None:
        nonlocal done
        for number in range(first, requests, AT_A_TIME):
            await _some_request(http, number)
            done += 1
            if done % (requests // 40 or 1) == 0:
                points.append((done, next(tree(node.pid))[1] / MiB))

    async with streams.open_client(_root(node)) as http, trio.open_nursery() as nursery:
        for first in range(AT_A_TIME):
            nursery.start_soon(client, http, first)
    late = points[len(points) // 2 :]
    return {"memory_mib": late[-1][1], "memory_growth_mib": slope(late) * requests}


async def _some_request(http: httpx2.AsyncClient, number: int) -> None:
    asked = body(f"Number {number}.\n{number}", 4)
    match number % 7:
        case 0:
            await streams.read(http, asked)
        case 1:
            answer = await http.post(streams.CHAT, json={"messages": asked["messages"], "max_tokens": 4})
            _expect(answer, 200)
        case 2:
            _expect(await http.post("/v1/completions", json={"prompt": f"Number {number}", "max_tokens": 4}), 200)
        case 3:
            _expect(await http.post("/v1/messages", json=_message(number)), 200)
        case 4:
            _expect(await http.post("/v1/messages", json=_message(number) | {"stream": True}), 200)
        case 5:
            response = {
                "input": f"Number {number}",
                "max_output_tokens": 4,
                "store": number % 2 == 0,
                "stream": number % 3 == 0,
            }
            _expect(await http.post("/v1/responses", json=response), 200)
        case _:
            _expect(await http.post(streams.CHAT, json={"messages": "none", "number": number}), 400)


def _message(number: int) -> dict[str, Any]:
    return {"model": "auto", "max_tokens": 4, "messages": [{"role": "user", "content": f"Number {number}"}]}


def _first_text_s(node: Node, asked: dict[str, Any]) -> float:
    """Seconds until the first text of a stream is here, for a client that costs as good as nothing itself."""
    began = time.monotonic()
    with _posted(node, asked) as connection:
        held = b""
        while not _TEXT.search(held):
            if not (data := connection.recv(1 << 16)):
                raise LoadError(f"a stream ended without any text: {held[-200:]!r}")
            held += data
        took = time.monotonic() - began
        while b"[DONE]" not in held and (data := connection.recv(1 << 16)):
            held += data
    return took


def _expect(answer: httpx2.Response, status: int) -> None:
    if answer.status_code != status:
        raise LoadError(f"HTTP {answer.status_code} instead of {status}: {answer.text[:200]}")


@contextlib.contextmanager
def _paced(folder: Path, model: Path, step_s: float) -> Iterator[Node]:
    """A node whose engine gives every request a token each ``step_s``. Raises NodeError."""
    flags = ("--model", str(model), "--api-max-generating", "4096")
    node = Node("paced", folder, *flags, module="benchmark.api_paced")
    os.environ[STEP] = str(step_s)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@contextlib.contextmanager
def _posted(node: Node, asked: dict[str, Any]) -> Iterator[socket.socket]:
    """A request on a connection of its own, which is cut when the block is left."""
    host, _, port = _root(node).removeprefix("http://").rpartition(":")
    sent = json.dumps(asked).encode()
    head = f"POST {streams.CHAT} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        yield connection


def _until(client: httpx2.Client, running: int) -> None:
    """Return once the engine computes so many requests. Raises NodeError."""
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        if sum(model["running"] + model["waiting"] for model in client.get("/api/status").json()["models"]) == running:
            return
        time.sleep(0.005)
    raise NodeError(f"the engine was not at {running} requests within {GONE_S:g} s.")


def _root(node: Node) -> str:
    return node.api.removesuffix("/v1")
