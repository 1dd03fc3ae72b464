"""The soak's requests are drawn from a seed, and each has a code word of its own."""

from __future__ import annotations

import json
import random
from collections import Counter

import msgspec

from benchmark.soak_asks import CARD, Ask, Card, draw, stock
from meshnode.api.chat_schema import parse_chat
from meshnode.api.schema import Asker
from meshnode.domain import CallerId, RequestId

ASKER = Asker(RequestId("r"), CallerId("c"))


def drawn(count: int) -> list[Ask]:
    greedy = stock(1, 5)
    rng = random.Random(7)
    return [draw(rng, greedy) for _ in range(count)]


def test_a_seed_gives_one_soak() -> None:
    assert drawn(50) == drawn(50)
    assert stock(1, 5) == stock(1, 5) != stock(2, 5)


def test_all_kinds_come_some_leave_and_code_words_differ() -> None:
    greedy = stock(1, 5)
    rng = random.Random(7)
    asks = [draw(rng, greedy) for _ in range(400)]
    assert set(Counter(ask.kind for ask in asks)) == {
        "greedy", "free", "several", "schema", "regex", "choice", "tool", "too long"
    }  # fmt: skip
    assert 30 < sum(ask.leaves_after is not None for ask in asks) < 110
    of_others = [ask.code for ask in asks if ask.stock is None]
    assert len(set(of_others)) == len(of_others)
    assert all(ask.code in json.dumps(ask.body) for ask in asks)


def test_a_node_takes_every_request() -> None:
    for ask in [*stock(1, 5), *drawn(100)]:
        parse_chat(json.dumps(ask.body).encode(), ASKER)


def test_the_schema_and_the_type_that_checks_it_say_the_same() -> None:
    card = {"name": "a", "kind": "place", "known": True, "tags": ["old"]}
    assert msgspec.convert(card, Card).kind == "place"
    assert set(card) == set(CARD["required"]) == set(Card.__struct_fields__)
