"""What lies in the cache, who holds it, and what goes first: rules by example, then a random life over cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.engine.backend import Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.prefix import Cut, Match, PrefixCache, Share, common

LONG = list(range(200))


def left_behind(cache: PrefixCache, owner: str, tokens: list[int], rank: int = 0) -> int:
    """A request of ``owner`` that computed these tokens and ended; its sequence id."""
    seq, _, _ = cache.begin(owner, tokens, len(tokens) - 1, rank)
    cache.extend(seq, tokens, len(tokens))
    cache.retain(seq)
    return seq


@given(st.lists(st.integers(0, 1), max_size=200), st.integers(0, 200), st.integers(0, 200))
def test_common_beginning(tokens: list[int], change: int, most: int) -> None:
    other = tokens.copy()
    if change < len(other):
        other[change] += 5
    assert common(tokens, other, most) == min(most, change, len(tokens))


def test_nothing_is_there_at_first() -> None:
    cache = PrefixCache(2)
    assert cache.begin("a", LONG, 199) == (0, 0, [])
    assert cache.match("a", LONG, 199) == Match(0, 0), "what is not computed yet cannot be shared"


def test_the_next_request_shares_what_the_last_one_left() -> None:
    cache = PrefixCache(3)
    first = left_behind(cache, "a", LONG)
    other = LONG[:150] + [9] * 50
    assert cache.match("a", other, 199) == Match(150, 150)
    seq, length, done = cache.begin("a", other, 199)
    assert (length, done) == (150, [Share(first, seq, 0, 150)])
    assert (cache.cells, cache.pinned, cache.idle) == (200, 150, 50)


def test_nothing_is_shared_across_owners() -> None:
    cache = PrefixCache(3)
    left_behind(cache, "a", LONG)
    assert cache.match("b", LONG, 199) == Match(0, 0)
    assert cache.begin("b", LONG, 199)[1] == 0


def test_at_least_one_token_is_left_to_compute() -> None:
    cache = PrefixCache(3)
    left_behind(cache, "a", LONG)
    assert cache.begin("a", LONG, len(LONG) - 1)[1] == 199


def test_a_conversation_that_goes_on_keeps_one_sequence_id() -> None:
    cache = PrefixCache(2)
    left_behind(cache, "a", LONG[:100])
    longer = left_behind(cache, "a", LONG)
    assert cache.match("a", LONG, 200) == Match(200, 200)
    assert cache.cells == 200
    assert cache.oldest() == longer
    assert cache.begin("b", [1], 0)[2] == [], "the other id is free"


def test_what_was_computed_twice_is_kept_once() -> None:
    cache = PrefixCache(2)
    for seq in (0, 1):
        assert cache.begin("a", LONG, 199)[0] == seq
    assert cache.extend(0, LONG, 100) == []
    assert cache.extend(1, LONG, 120) == [Cut(1, 0, 100), Share(0, 1, 0, 100)]
    assert cache.cells == 120


def test_ends_go_before_heads_and_the_least_recently_used_first() -> None:
    cache = PrefixCache(4)
    system = LONG[:100]
    for tail in (1, 2):
        left_behind(cache, "a", system + [tail] * 64)
    cache.match("a", system + [1] * 10, 110)
    assert cache.evict(1) == [Cut(0)], "the older leaf goes; its head stays under the other's id"
    assert cache.match("a", system, 100) == Match(100, 100)
    assert cache.evict(64) == [Cut(1, 100)]
    assert cache.match("a", system, 100) == Match(100, 100)
    assert cache.evict(64) == [Cut(1, 36)]
    assert cache.evict(10_000) == [Cut(1)]
    assert (cache.cells, cache.idle) == (0, 0)


def test_use_keeps_what_was_used() -> None:
    cache = PrefixCache(4)
    for owner in "ab":
        left_behind(cache, owner, LONG)
    seq, _, _ = cache.begin("a", LONG, 150)
    cache.retain(seq)
    cache.evict(100)
    lengths = [cache.match(owner, LONG, 200).length for owner in "ab"]
    assert lengths == [150, 136], "first the end that was not used again"


def test_lower_classes_are_evicted_first() -> None:
    cache = PrefixCache(3)
    left_behind(cache, "owner", LONG, rank=0)
    stranger = left_behind(cache, "stranger", LONG, rank=5)
    assert cache.oldest() == stranger


def test_what_runs_is_never_evicted() -> None:
    cache = PrefixCache(2)
    left_behind(cache, "a", LONG)
    cache.begin("a", LONG, 150)
    cache.evict(10_000)
    assert (cache.cells, cache.pinned) == (150, 150)


def test_an_idle_holder_gives_its_id_up_for_one_who_runs() -> None:
    cache = PrefixCache(2)
    left_behind(cache, "a", LONG)
    left_behind(cache, "b", LONG)
    seq, length, done = cache.begin("b", LONG, 199)
    assert (seq, length, done) == (0, 199, [Cut(0), Share(1, 0, 0, 199)])


def test_a_dropped_holder_leaves_nothing() -> None:
    cache = PrefixCache(2)
    seq, _, _ = cache.begin("a", LONG, 199)
    cache.extend(seq, LONG, 100)
    assert cache.drop(seq) == [Cut(seq)]
    assert (cache.cells, cache.match("a", LONG, 199)) == (0, Match())


def test_forgetting_an_owner_leaves_the_others() -> None:
    cache = PrefixCache(4)
    left_behind(cache, "a", LONG)
    left_behind(cache, "b", LONG)
    cache.forget_owner("a")
    assert (cache.cells, cache.match("a", LONG, 199), cache.match("b", LONG, 199).length) == (200, Match(), 199)


def test_pinned_by_counts_shared_cells_once() -> None:
    cache = PrefixCache(3)
    left_behind(cache, "a", LONG)
    one, two = (cache.begin("a", LONG, most)[0] for most in (120, 150))
    assert (cache.pinned_by([one]), cache.pinned_by([two]), cache.pinned_by([one, two])) == (120, 150, 150)


# --- a random life over real cells ------------------------------------------------------------

IDS, RUNNING = 6, 3


class Begin(NamedTuple):
    """A request of an owner comes, with a prompt that begins like others do."""

    owner: str
    head: int
    head_length: int
    tail: int


class Compute(NamedTuple):
    """One of those running computes so many tokens."""

    which: int
    tokens: int


class End(NamedTuple):
    """One of those running ends; what it has stays unless it failed."""

    which: int
    failed: bool


class Evict(NamedTuple):
    """Cells are needed."""

    cells: int


stories = st.lists(
    st.one_of(
        st.builds(Begin, st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 90), st.integers(2, 99)),
        st.builds(Compute, st.integers(0, 2), st.integers(1, 80)),
        st.builds(Compute, st.integers(0, 2), st.integers(1, 80)),
        st.builds(End, st.integers(0, 2), st.booleans()),
        st.builds(Evict, st.integers(1, 200)),
    ),
    max_size=60,
)


@dataclass
class Life:
    """A cache of prefixes beside the cells it speaks of; ``alive`` has owner, tokens and how many are computed."""

    cache: PrefixCache = field(default_factory=lambda: PrefixCache(IDS))
    backend: FakeBackend = field(default_factory=lambda: FakeBackend(100_000, RUNNING, ids=IDS))
    alive: dict[int, tuple[str, list[int], int]] = field(default_factory=dict)

    def do(self, operations: list[Cut | Share]) -> None:
        for it in operations:
            if isinstance(it, Cut):
                assert self.backend.remove(*it)
            else:
                self.backend.copy(*it)

    def begin(self, what: Begin) -> None:
        tokens = [what.head] * what.head_length + [what.tail] * 40
        found = self.cache.match(what.owner, tokens, len(tokens) - 1)
        seq, length, operations = self.cache.begin(what.owner, tokens, len(tokens) - 1)
        self.do(operations)
        assert length <= found.length
        assert length == found.length or operations[0] == Cut(seq), "only who gave its id up may have taken cells along"
        self.alive[seq] = (what.owner, tokens, length)

    def compute(self, seq: int, count: int) -> None:
        owner, tokens, done = self.alive[seq]
        upto = min(len(tokens), done + count)
        if upto > done:
            rows = [Row(seq, token, place, False) for place, token in enumerate(tokens[done:upto], done)]
            self.backend.decode(rows)
        self.alive[seq] = (owner, tokens, upto)
        if count % 3:
            self.do(self.cache.extend(seq, tokens, upto))

    def end(self, seq: int, *, failed: bool) -> None:
        _, tokens, done = self.alive.pop(seq)
        if failed:
            self.do(self.cache.drop(seq))
        else:
            self.do(self.cache.extend(seq, tokens, done))
            self.do(self.cache.retain(seq))

    def check(self) -> None:
        private = sum(done - self.cache.depth(seq) for seq, (_, _, done) in self.alive.items())
        assert self.backend.cells_used == self.cache.cells + private
        assert self.cache.pinned == self.cache.pinned_by(self.alive)
        assert 0 <= self.cache.pinned <= self.cache.cells


@settings(max_examples=150, deadline=None)
@given(stories)
def test_the_real_cells_are_those_that_are_counted(story: list[Begin | Compute | End | Evict]) -> None:
    life = Life()
    for what in story:
        running = sorted(life.alive)
        if isinstance(what, Begin) and len(running) < RUNNING:
            life.begin(what)
        elif isinstance(what, Evict):
            idle = life.cache.idle
            life.do(life.cache.evict(what.cells))
            assert life.cache.idle <= max(0, idle - what.cells)
        elif running and isinstance(what, Compute):
            life.compute(running[what.which % len(running)], what.tokens)
        elif running and isinstance(what, End):
            life.end(running[what.which % len(running)], failed=what.failed)
        life.check()
    for seq in sorted(life.alive):
        life.end(seq, failed=False)
    life.do(life.cache.evict(10**6))
    assert (life.cache.cells, life.backend.cells_used) == (0, 0)


@pytest.mark.parametrize("owner", ["a", "b"])
def test_nothing_stays_of_an_owner_who_is_forgotten(owner: str) -> None:
    life = Life()
    for name in "ab":
        life.begin(Begin(name, 1, 50, 7))
        (seq,) = life.alive
        life.compute(seq, 80)
        life.end(seq, failed=False)
    life.do(life.cache.forget_owner(owner))
    life.check()
    assert life.backend.cells_used == 80
