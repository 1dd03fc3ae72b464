"""What the clients of ``scripts/soak`` ask: drawn from a seed, each with a word of its own. Pure.

Every request carries a code word that no other has: one that turns up in a neighbour's answer got there by a fault.
Greedy requests are drawn from a fixed stock, so that the answer of each one, run alone, is known.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from benchmark.texts import schema_format, words

CHOICES: Final = ("yes", "no", "it depends", "nobody knows")
REGEX: Final = "[A-Z]{2}-[0-9]{4}"
CODE: Final = 10
"""Letters of a code word: none comes about by chance."""


Fields = Mapping[str, Any]


class Card(msgspec.Struct, forbid_unknown_fields=True):
    """What the JSON answers must hold."""

    name: str
    kind: Literal["person", "place", "thing"]
    known: bool
    tags: list[Literal["old", "new", "big", "small"]]


CARD: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 24},
        "kind": {"enum": ["person", "place", "thing"]},
        "known": {"type": "boolean"},
        "tags": {"type": "array", "items": {"enum": ["old", "new", "big", "small"]}, "maxItems": 3},
    },
    "required": ["name", "kind", "known", "tags"],
    "additionalProperties": False,
}
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"name": "file_card", "description": "Files a card.", "parameters": CARD, "strict": True},
}


@dataclass(frozen=True)
class Ask:
    """A request as it is sent. ``refused`` is the code of the error that must come in place of an answer.

    ``stock`` numbers the greedy requests whose lone answer is known; ``leaves_after`` is in seconds, or None to stay.
    """

    kind: str
    code: str
    body: Fields
    stock: int | None = None
    leaves_after: float | None = None
    refused: str | None = None


def stock(seed: int, count: int) -> list[Ask]:
    """The greedy requests: free ones, and ones held to a form."""
    return [_greedy(random.Random(f"stock {seed} {number}"), number) for number in range(count)]


def draw(rng: random.Random, greedy: list[Ask]) -> Ask:
    """The next request of a client; one in six leaves before its answer ends."""
    kind = rng.choices(tuple(_MAKERS), weights=[weight for weight, _ in _MAKERS.values()])[0]
    made = _MAKERS[kind][1](rng, greedy)
    if made.refused is not None or rng.random() >= 1 / 6:
        return made
    return Ask(made.kind, made.code, made.body, made.stock, leaves_after=rng.expovariate(1.0))


def _greedy(rng: random.Random, number: int) -> Ask:
    held: tuple[Fields, ...] = (
        {}, {}, {}, {"response_format": schema_format(CARD)}, {"structured_outputs": {"choice": list(CHOICES)}},
    )  # fmt: skip
    fields = {**rng.choice(held), "temperature": 0, "logprobs": True, "top_logprobs": 4}
    made = _ask(rng, "greedy", fields)
    return Ask("greedy", made.code, made.body, stock=number)


def _from_stock(rng: random.Random, greedy: list[Ask]) -> Ask:
    return rng.choice(greedy)


def _free(rng: random.Random, _greedy: list[Ask]) -> Ask:
    penalty = rng.choice(({}, {"frequency_penalty": 0.5}, {"min_p": 0.1}, {"top_k": 20}))
    return _ask(rng, "free", {"temperature": rng.choice((0.4, 0.8, 1.2)), "top_p": 0.95} | penalty)


def _several(rng: random.Random, _greedy: list[Ask]) -> Ask:
    return _ask(rng, "several", {"n": rng.randint(2, 4), "temperature": 0.9})


def _schema(rng: random.Random, _greedy: list[Ask]) -> Ask:
    return _ask(rng, "schema", {"response_format": schema_format(CARD), "temperature": 0.9})


def _regex(rng: random.Random, _greedy: list[Ask]) -> Ask:
    return _ask(rng, "regex", {"structured_outputs": {"regex": REGEX}, "temperature": 0.9})


def _choice(rng: random.Random, _greedy: list[Ask]) -> Ask:
    return _ask(rng, "choice", {"structured_outputs": {"choice": list(CHOICES)}, "temperature": 0.9})


def _tool(rng: random.Random, _greedy: list[Ask]) -> Ask:
    how = {"tool_choice": "required", "parallel_tool_calls": False}  # the judge reads one call's arguments
    return _ask(rng, "tool", {"tools": [TOOL], "temperature": 0.7, **how})


def _too_long(rng: random.Random, _greedy: list[Ask]) -> Ask:
    made = _ask(rng, "too long", {})
    body = dict(made.body) | {"messages": [{"role": "user", "content": f"{made.code} {words(12_000, made.code)}"}]}
    return Ask("too long", made.code, body, refused="context_length_exceeded")


_MAKERS: Final[Mapping[str, tuple[int, Callable[[random.Random, list[Ask]], Ask]]]] = {
    "greedy": (34, _from_stock), "free": (18, _free), "several": (10, _several), "schema": (12, _schema),
    "regex": (8, _regex), "choice": (8, _choice), "tool": (8, _tool), "too long": (2, _too_long),
}  # fmt: skip
"""By kind: how often of a hundred, and what makes one."""


def _ask(rng: random.Random, kind: str, fields: Fields) -> Ask:
    """Most prompts are short, some long; half of them begin with one of three system messages that many share."""
    code = "".join(rng.choices(string.ascii_uppercase, k=CODE))
    length = rng.choices((12, 60, 250, 1500), weights=(50, 30, 15, 5))[0]
    shared = [{"role": "system", "content": words(200, f"shared {rng.randrange(3)}")}] if rng.random() < 0.5 else []
    content = f"My code word is {code}. {words(length, code)} Say my code word, then tell me what you think of this."
    said = [*shared, {"role": "user", "content": content}]
    whole = {"messages": said, "max_tokens": rng.choice((8, 24, 48, 96)), **fields}
    return Ask(kind, code, whole | {"stream": True, "stream_options": {"include_usage": True}})
