"""Meshes of real processes on loopback: nodes that find each other by being told, and what is asked of them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import httpx2
import trio
from openai import OpenAI

from meshnode.domain import PeerId
from meshnode.net.directory import Key, stem_of
from meshnode.net.host import open_host
from meshnode.net.kad_wire import Kind, Message, Reader, encode
from meshnode.net.kademlia import PROTOCOL
from tests.kit.node import Node
from tests.kit.peers import identity

T = TypeVar("T")
HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
ENDLESS = {
    "messages": [{"role": "user", "content": "Go on."}],
    "max_tokens": 1500, "ignore_eos": True, "stream": True,
}  # fmt: skip


def apart() -> list[str]:
    """Flags that keep a mesh to itself, whatever else runs on this machine: a network of its own, and no mDNS."""
    return ["--no-lan", "--network", f"test-{uuid.uuid4().hex[:12]}"]


def listed(node: Node) -> dict[str, dict[str, Any]]:
    """The models a node lists, by id."""
    answer = httpx2.get(f"{node.api}/v1/models", timeout=10).raise_for_status().json()
    return {str(model["id"]): model for model in answer["data"]}


def until(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Poll facts of other processes until ``condition`` holds; gives the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not so within {seconds:g} s"
        time.sleep(0.05)
    return time.monotonic() - began


async def awaited(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """The same beside other tasks."""
    return await trio.to_thread.run_sync(until, condition, seconds)


@contextmanager
def sdk(node: Node) -> Iterator[OpenAI]:
    """The official client, which validates every answer against its own types."""
    with OpenAI(
        base_url=f"{node.api}/v1", api_key="unused", max_retries=0, timeout=60, _strict_response_validation=True
    ) as client:
        yield client


def chat(node: Node, **fields: object) -> httpx2.Response:
    """A chat in one shot."""
    return httpx2.post(f"{node.api}/v1/chat/completions", json={**HELLO, **fields}, timeout=60)


@asynccontextmanager
async def streamed(node: Node, **fields: object) -> AsyncIterator[AsyncIterator[str]]:
    """Lines of a streamed answer whose first text is here."""
    async with (
        httpx2.AsyncClient(base_url=node.api, timeout=60) as http,
        http.stream("POST", "/v1/chat/completions", json={**ENDLESS, **fields}) as response,
        aclosing(cast(AsyncGenerator[str, None], response.aiter_lines())) as lines,
    ):
        while '"content":"' not in (await anext(lines)).replace('"content":""', ""):
            pass
        yield lines


async def broken(lines: AsyncIterator[str]) -> dict[str, Any]:
    """The error that ends a stream; whatever came before it was part of the answer."""
    error: dict[str, Any] = {}
    async for line in lines:
        if line.startswith("data: {"):
            chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
            error = chunk.get("error") or error
    return error


# --- the books ------------------------------------------------------------------------------------


class Account(NamedTuple):
    """One channel, as either end shows it."""

    chan: str
    total_uc: int
    confirmed_uc: int


def accounts(node: Node, role: str) -> list[Account]:
    """The channels in which a node is ``consumer`` or ``provider``."""
    channels = node.told("credits")["channels"]
    found = [Account(str(c["chan"]), c["total_uc"], c["confirmed_uc"]) for c in channels if c["role"] == role]
    return sorted(found)


def reconciled(consumer: Node, providers: Sequence[Node]) -> bool:
    """Whether all that was spent is earned by these, to the micro-credit, and signed by both."""
    spent = accounts(consumer, "consumer")
    earned = sorted(account for provider in providers for account in accounts(provider, "provider"))
    return spent == earned and all(account.total_uc == account.confirmed_uc for account in spent)


# --- the directory --------------------------------------------------------------------------------


async def kept_by(hub: Node, network: str, name: str) -> set[PeerId]:
    """The peers of whom a node's own records of the directory say that they provide ``name``."""
    question = Message(kind=Kind.GET_PROVIDERS, key=Key(stem_of(network, name), 1, 0).encoded())
    async with open_host(identity("scout"), []) as scout:
        await scout.connect(hub.address)
        async with scout.open_stream(PeerId(hub.peer), PROTOCOL) as stream:
            await stream.write(encode(question))
            await stream.close_write()
            answer = await Reader(stream, local=True).next()
    return {hint.peer for hint in answer.providers} if answer is not None else set()
