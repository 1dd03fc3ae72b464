"""The loads of ``scripts/bench_engine``: each asks a running server and gives figures by their keys."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import trio

from benchmark import streams
from benchmark.figures import gaps_during, percentile, rank_correlation
from benchmark.servers import Running
from benchmark.streams import Answer, LoadError, conversation, read, side_by_side
from benchmark.texts import SCHEMA, TURNS, schema_format, words

CONVERSATIONS: Final = 8
CLIENTS: Final = 200
CROWD_S: Final = 300.0
"""A client of the crowd that has no answer by then counts as hung."""
QUESTION_AFTER_S: Final = 0.5
MiB: Final = 1 << 20


@dataclass(frozen=True)
class Sizes:
    """How much each load asks for, in tokens (words for prompts: about a token each), and the round's salt."""

    salt: int
    tokens: int = 64
    prefix: int = 860
    long: int = 3800
    turn_tokens: int = 24
    schema_tokens: int = 96
    texts: int = 64
    clients: int = CLIENTS


Load = Callable[[Running, Sizes], dict[str, float]]


def _side_by_side(count: int) -> Load:
    """``count`` streams with different prompts."""

    def load(server: Running, sizes: Sizes) -> dict[str, float]:
        found = streams.measure(server.url, streams.prompts(count, 100 * sizes.salt + count), sizes.tokens)
        return {f"tokens_per_s_{count}": found.tokens_per_s, f"first_token_ms_{count}": 1000 * found.first_token_s}

    return load


def shared(server: Running, sizes: Sizes) -> dict[str, float]:
    """Sixteen questions below one long system message that nobody has sent before: seconds until all have begun."""
    system = words(sizes.prefix, f"shared {sizes.salt}")
    asked = [
        conversation([_said("system", system), _said("user", f"Tell me of {topic}.")], 2) for topic in streams.TOPICS
    ]

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        began = trio.current_time()
        answers = await side_by_side(client, asked)
        return {"shared_prefix_s": max(answer.asked_at + answer.first_token_s for answer in answers) - began}

    return streams.run(server.url, load)


def turns(server: Running, sizes: Sizes) -> dict[str, float]:
    """Eight conversations side by side, each answer sent back with the next question: the median wait for a reply."""
    waits: list[float] = []

    async def talk(client: httpx2.AsyncClient, number: int) -> None:
        said = [_said("system", f"Conversation {sizes.salt}-{number}. {words(60, f'talk {sizes.salt} {number}')}")]
        for question in TURNS:
            said.append(_said("user", question.format(topic=streams.TOPICS[number])))
            answer = await read(client, conversation(said, sizes.turn_tokens))
            said.append(_said("assistant", answer.text))
            waits.append(answer.first_token_s)

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        async with trio.open_nursery() as nursery:
            for number in range(CONVERSATIONS):
                nursery.start_soon(talk, client, number)
        return {"turn_ms": 1000 * statistics.median(waits)}

    return streams.run(server.url, load)


def question(server: Running, sizes: Sizes) -> dict[str, float]:
    """A question of some twenty tokens, while a long prompt is on its way in: its time to a first token."""

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        async with trio.open_nursery() as nursery:
            long = Answer(0.0)
            nursery.start_soon(read, client, _long(sizes, "question"), long)
            await trio.sleep(QUESTION_AFTER_S)
            short = await read(client, conversation([_said("user", f"Name {sizes.salt + 2} trees, please.")], 4))
            if long.arrivals and long.arrivals[0] < short.asked_at:
                raise LoadError("the long prompt was in before the short question was sent: make it longer")
            nursery.cancel_scope.cancel()
        return {"question_ms": 1000 * short.first_token_s}

    return streams.run(server.url, load)


def gaps(server: Running, sizes: Sizes) -> dict[str, float]:
    """Four streams are running when a long prompt comes: how long they stand still, and how long it takes itself."""

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        running = [Answer(0.0) for _ in range(4)]
        async with trio.open_nursery() as nursery:
            for prompt, answer in zip(streams.prompts(4, 7000 + sizes.salt), running, strict=True):
                nursery.start_soon(read, client, streams.body(prompt, 700), answer)
            await _until(lambda: all(answer.arrivals for answer in running))
            long = await read(client, _long(sizes, "gaps"))
            begin, end = long.asked_at, long.asked_at + long.first_token_s
            await _until(lambda: all(answer.finish or answer.arrivals[-1] > end for answer in running))
            nursery.cancel_scope.cancel()
        found = [gap for answer in running for gap in gaps_during(answer.arrivals, begin, end)]
        return {"gap_ms": 1000 * percentile(found, 0.99), "long_prompt_s": end - begin}

    return streams.run(server.url, load)


def schema(server: Running, sizes: Sizes) -> dict[str, float]:
    """Four streams held to a JSON schema against four free ones: how much of the speed is left."""

    async def rate(client: httpx2.AsyncClient, kind: str, extra: dict[str, Any]) -> float:
        asked = [
            conversation([_said("user", f"Note {kind} {sizes.salt}-{n}. List what you know of {topic}.")], 0)
            | {"max_tokens": sizes.schema_tokens}
            | extra
            for n, topic in enumerate(streams.TOPICS[:4])
        ]
        began = trio.current_time()
        answers = await side_by_side(client, asked)
        return sum(answer.tokens for answer in answers) / (trio.current_time() - began)

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        free = await rate(client, "free", {})
        held = await rate(client, "held", {"response_format": schema_format(SCHEMA), "ignore_eos": False})
        return {"schema_share": held / free, "schema_tokens_per_s": held, "free_tokens_per_s": free}

    return streams.run(server.url, load)


def crowd(server: Running, sizes: Sizes) -> dict[str, float]:
    """Two hundred clients at once: who is answered, in which order, and what memory they leave behind."""
    before = server.memory().rss
    asked_at: list[float] = []
    began_at: list[float] = []
    answered = 0

    async def one(client: httpx2.AsyncClient, number: int) -> None:
        nonlocal answered
        content = f"Client {sizes.salt}-{number} asks: what is {words(12, f'crowd {sizes.salt} {number}')}"
        with trio.move_on_after(CROWD_S):
            try:
                answer = await read(client, conversation([_said("user", content)], 8))
            except (LoadError, httpx2.HTTPError):
                return
            answered += 1
            asked_at.append(answer.asked_at)
            began_at.append(answer.arrivals[0] if answer.arrivals else trio.current_time())

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        async with trio.open_nursery() as nursery:
            for number in range(sizes.clients):
                nursery.start_soon(one, client, number)
                await trio.sleep(0.002)  # an order to be kept: sent at one instant, nobody is first
        order = rank_correlation(asked_at, began_at) if answered > 1 else 0.0
        growth = (server.memory().rss - before) / MiB
        return {"crowd_answered": answered, "crowd_order": order, "crowd_growth_mib": growth}

    return streams.run(server.url, load)


def memory(server: Running, sizes: Sizes) -> dict[str, float]:
    """What the server holds; to be asked before any load. The sizes play no part."""
    del sizes
    held = server.memory()
    shares = {} if held.pss is None else {"pss_mib": held.pss / MiB}
    return {"rss_mib": held.rss / MiB} | shares


def embeddings(server: Running, sizes: Sizes) -> dict[str, float]:
    """One request with many texts of about a hundred tokens: texts a second."""
    texts = [words(88, f"text {sizes.salt} {number}") for number in range(sizes.texts)]

    async def load(client: httpx2.AsyncClient) -> dict[str, float]:
        began = trio.current_time()
        answer = await client.post("/v1/embeddings", json={"input": texts, "encoding_format": "float"})
        wall = trio.current_time() - began
        if not answer.is_success:
            raise streams.refused(answer.status_code, answer.content)
        if len(answer.json()["data"]) != sizes.texts:
            raise LoadError(f"{len(answer.json()['data'])} vectors came for {sizes.texts} texts")
        return {"texts_per_s": sizes.texts / wall}

    return streams.run(server.url, load)


def start(server: Running, sizes: Sizes) -> dict[str, float]:
    """How long it took from the command to the first answer. The sizes play no part."""
    del sizes
    return {"start_s": server.start_s}


RUN: Final[Mapping[str, Load]] = {
    "start": start, "memory": memory, "one": _side_by_side(1), "eight": _side_by_side(8), "sixteen": _side_by_side(16),
    "shared": shared, "turns": turns, "question": question, "gaps": gaps, "schema": schema, "crowd": crowd,
    "embeddings": embeddings,
}  # fmt: skip
"""By name, in the order in which they run: memory before anything has been asked, embeddings on a server of its own."""


async def _until(fact: Callable[[], bool]) -> None:
    """Return once it holds; looked at every few milliseconds, which wakes no server."""
    while not fact():  # noqa: ASYNC110  there is no event to wait for
        await trio.sleep(0.005)


def _long(sizes: Sizes, what: str) -> dict[str, Any]:
    return conversation([_said("user", words(sizes.long, f"{what} {sizes.salt}"))], 1)


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
