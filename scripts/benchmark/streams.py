"""Load on a server of OpenAI's chat API: streams read side by side, and when their tokens came."""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import httpx2
import trio

T = TypeVar("T")
CHAT = "/v1/chat/completions"
PATIENCE_S = 600.0
TOPICS = (
    "a lighthouse", "the tides", "sourdough bread", "bicycle gears", "a chess opening", "migrating birds",
    "the printing press", "volcanoes", "tea", "a suspension bridge", "honey bees", "the violin", "glaciers",
    "paper maps", "rain forests", "clocks",
)  # fmt: skip


class Figures(NamedTuple):
    """Of streams read side by side: tokens per second of all together, and the median time to a first token."""

    tokens_per_s: float
    first_token_s: float


class Chosen(NamedTuple):
    """A token of an answer: its text, its log-probability, and those of the likeliest tokens there, by their texts."""

    token: str
    logprob: float
    top: Mapping[str, float]


@dataclass
class Answer:
    """One stream as it was read. Times are trio's, in seconds; ``arrivals`` has one for each piece of text."""

    asked_at: float
    arrivals: list[float] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    tokens: int = 0
    choices: dict[int, str] = field(default_factory=dict)
    finishes: dict[int, str] = field(default_factory=dict)
    arguments: dict[int, str] = field(default_factory=dict)
    """Of each choice's tool calls, one after the other."""
    chosen: list[Chosen] = field(default_factory=list)
    """The tokens of the first choice, where logprobs were asked for."""

    @property
    def first_token_s(self) -> float:
        """Seconds until the first piece of text. Raises LoadError where none came."""
        if not self.arrivals:
            raise LoadError("an answer came without any text")
        return self.arrivals[0] - self.asked_at


class LoadError(Exception):
    """A server did not answer as asked; the message says how, ``code`` is the error's where it gave one."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


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
    return conversation([{"role": "system", "content": f"Note {note}."}, {"role": "user", "content": text}], tokens)


def conversation(messages: Sequence[Mapping[str, str]], tokens: int) -> dict[str, Any]:
    """A request with these messages that gives exactly ``tokens`` tokens, the same ones each time."""
    return {
        "messages": list(messages),
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def in_trio(main: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """``trio.run``; an interrupt comes out as itself, however many nurseries it passed."""
    try:
        return trio.run(main, *arguments)
    except* KeyboardInterrupt:
        pass
    raise KeyboardInterrupt


def run(url: str, load: Callable[[httpx2.AsyncClient], Awaitable[T]]) -> T:
    """Run a load against a server, and give what it gives. Raises LoadError, for all that HTTP can do wrong too."""

    async def inside() -> T:
        async with open_client(url) as client:
            return await load(client)

    try:
        return in_trio(inside)
    except* (LoadError, httpx2.HTTPError) as group:
        failed = first_of(group)  # what is raised in here would come out as a group again
    raise LoadError(f"{url}: {failed!r}", getattr(failed, "code", ""))


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with room for any number of streams."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=16)
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False, limits=limits) as client:
        yield client


def first_of(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that nested nurseries make of it."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def side_by_side(client: httpx2.AsyncClient, asked: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Send all requests at once and read every answer to its end; in the requests' order."""
    answers: list[Answer] = [Answer(0.0)] * len(asked)

    async def one(number: int) -> None:
        answers[number] = await read(client, asked[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(asked)):
            nursery.start_soon(one, number)
    return answers


def measure(url: str, asked: Sequence[str], tokens: int) -> Figures:
    """Send all prompts at once and read every answer to its end. Raises LoadError."""

    async def load(client: httpx2.AsyncClient) -> Figures:
        began = trio.current_time()
        answers = await side_by_side(client, [body(prompt, tokens) for prompt in asked])
        wall = trio.current_time() - began
        if wrong := [answer.tokens for answer in answers if answer.tokens != tokens]:
            raise LoadError(f"it gave {wrong} tokens where {tokens} were asked for")
        first = statistics.median(answer.arrivals[0] - began for answer in answers)
        return Figures(sum(answer.tokens for answer in answers) / wall, first)

    return run(url, load)


async def read(
    client: httpx2.AsyncClient, asked: Mapping[str, Any], into: Answer | None = None, key: str | None = None
) -> Answer:
    """One stream, to its end; ``into`` can be looked at meanwhile. Raises LoadError or httpx2's HTTPError."""
    answer = into or Answer(0.0)
    answer.asked_at = trio.current_time()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with client.stream("POST", CHAT, json=asked, headers=headers) as response:
        if not response.is_success:
            raise refused(response.status_code, await response.aread())
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                take(answer, json.loads(line.removeprefix("data: ")), trio.current_time())
    if not answer.finishes:
        raise LoadError("a stream ended without a finish reason")
    return answer


def take(answer: Answer, event: Mapping[str, Any], now: float) -> None:
    """Add one event of a stream to what is known of its answer. Raises LoadError for an error event."""
    if error := event.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        raise LoadError(f"a stream broke off: {error}", str(code or ""))
    for choice in event.get("choices", ()):
        index = choice.get("index", 0)
        if piece := choice["delta"].get("content"):
            answer.arrivals.append(now)
            answer.choices[index] = answer.choices.get(index, "") + piece
        for call in choice["delta"].get("tool_calls") or ():
            more = call.get("function", {}).get("arguments") or ""
            answer.arguments[index] = answer.arguments.get(index, "") + more
        if index == 0:
            answer.chosen += map(_chosen, (choice.get("logprobs") or {}).get("content") or ())
        if choice.get("finish_reason"):
            answer.finishes[index] = choice["finish_reason"]
    answer.text, answer.finish = answer.choices.get(0, ""), answer.finishes.get(0, "")
    usage = event.get("usage") or {}
    answer.tokens = usage.get("completion_tokens", answer.tokens)
    answer.prompt_tokens = usage.get("prompt_tokens", answer.prompt_tokens)


def _chosen(one: Mapping[str, Any]) -> Chosen:
    top = {other["token"]: other["logprob"] for other in one.get("top_logprobs", ())}
    return Chosen(one["token"], one["logprob"], top)


def refused(status: int, content: bytes) -> LoadError:
    """The error of an answer that is none."""
    try:
        error = json.loads(content)["error"]
        return LoadError(f"status {status}: {error['message']}", str(error.get("code") or status))
    except (ValueError, KeyError, TypeError):
        return LoadError(f"status {status}: {content[:300]!r}", str(status))
