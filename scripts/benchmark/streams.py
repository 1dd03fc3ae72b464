"""Load on a server of OpenAI's chat API: streams read side by side, and how fast their tokens came."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx2
import trio

TOPICS = (
    "a lighthouse", "the tides", "sourdough bread", "bicycle gears", "a chess opening", "migrating birds",
    "the printing press", "volcanoes", "tea", "a suspension bridge", "honey bees", "the violin", "glaciers",
    "paper maps", "rain forests", "clocks",
)  # fmt: skip


class Figures(NamedTuple):
    """Of streams read side by side: tokens per second of all together, and the median time to a first token."""

    tokens_per_s: float
    first_token_s: float


class _Stream(NamedTuple):
    first_token_at: float
    tokens: int


class LoadError(Exception):
    """A server did not answer as asked; the message says how."""


def prompts(count: int, salt: int) -> list[str]:
    """Distinct prompts of some fifty tokens; ``salt`` tells those of one round from another's."""
    return [
        f"You are asked for a long and careful text about {TOPICS[number % len(TOPICS)]}, "
        f"in plain words, for a reader who has {number + 2} minutes and knows nothing of it yet. Begin at once."
        f"\n{salt}-{number}"
        for number in range(count)
    ]


def body(prompt: str, tokens: int) -> dict[str, Any]:
    """A request that gives exactly ``tokens`` tokens, the same ones each time.

    Its system message is the prompt's last line: a prefix that requests share would measure caches, not the engine.
    """
    text, _, note = prompt.rpartition("\n")
    return {
        "messages": [{"role": "system", "content": f"Note {note}."}, {"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def measure(url: str, asked: Sequence[str], tokens: int) -> Figures:
    """Send all prompts at once and read every answer to its end. Raises LoadError."""
    return trio.run(_measure, url, asked, tokens)


async def _measure(url: str, asked: Sequence[str], tokens: int) -> Figures:
    streams: list[_Stream] = []
    failures: list[Exception] = []
    limits = httpx2.Limits(max_connections=len(asked))
    async with httpx2.AsyncClient(base_url=url, timeout=600, trust_env=False, limits=limits) as client:

        async def read(prompt: str) -> None:
            try:
                streams.append(await _read(client, body(prompt, tokens)))
            except (LoadError, httpx2.HTTPError) as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for prompt in asked:
                nursery.start_soon(read, prompt)
        wall = trio.current_time() - began
    if failures:
        raise LoadError(f"{url}: {failures[0]!r}")
    if wrong := [stream.tokens for stream in streams if stream.tokens != tokens]:
        raise LoadError(f"{url} gave {wrong} tokens where {tokens} were asked for")
    first = statistics.median(stream.first_token_at - began for stream in streams)
    return Figures(sum(stream.tokens for stream in streams) / wall, first)


async def _read(client: httpx2.AsyncClient, asked: dict[str, Any]) -> _Stream:
    """One stream, to its end."""
    first, tokens = 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        if not answer.is_success:
            raise LoadError(f"{answer.url} answered {answer.status_code}: {(await answer.aread())[:300]!r}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise LoadError(f"{answer.url} broke off: {event['error']}")
            if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                first = trio.current_time()
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return _Stream(first, tokens)
