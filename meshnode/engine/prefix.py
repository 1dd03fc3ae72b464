"""Which tokens lie in the KV cache, and under which sequence ids: a radix tree for each owner. Pure.

A *holder* is one of the model's sequence ids. It holds the cells of all tokens on the way from its owner's root to its
node, so cells that several holders share are counted once. A running holder pins its way; an idle one is what a
request left behind for the next one that begins alike. Cells exist as long as somebody holds them. What must happen in
the real cache is returned as operations, to be done in their order before the next batch.

Nothing is ever matched across owners: how long a prompt takes would tell one caller what another has asked
(PROMPTPEEK, NDSS 2025). The tree is that of SGLang's RadixAttention (Zheng et al. 2024): leaves are evicted, the least
recently used first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

_BLOCK = 64
"""Tokens compared at a time; a trimmed leaf gives up at least as many, so that decoding does not trim at each step."""


class Cut(NamedTuple):
    """Forget positions ``start <= p < end`` (-1: to the end) of a sequence id."""

    seq: int
    start: int = 0
    end: int = -1


class Share(NamedTuple):
    """Let ``target`` hold the cells that ``source`` has at positions ``start <= p < end``."""

    source: int
    target: int
    start: int
    end: int


class Match(NamedTuple):
    """Tokens that lie in the cache already; ``idle`` of their cells are held by nobody who runs."""

    length: int = 0
    idle: int = 0


def common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """How many of the first ``most`` tokens are the same."""
    most = min(most, len(one), len(other))
    done = 0
    while done < most and one[done : done + _BLOCK] == other[done : done + _BLOCK]:
        done += _BLOCK
    while done < most and one[done] == other[done]:
        done += 1
    return min(done, most)


class _Node:
    """Tokens from its parent's end to its own, ``end`` tokens from the root."""

    __slots__ = ("children", "end", "holders", "parent", "pins", "tokens", "used")

    def __init__(self, parent: _Node | None, tokens: list[int]) -> None:
        self.parent = parent
        self.tokens = tokens
        self.end: int = (parent.end if parent else 0) + len(tokens)
        self.children: dict[int, _Node] = {}
        self.holders: dict[int, None] = {}
        self.pins = 0
        """Running holders here and below."""
        self.used = 0

    def way(self) -> Iterator[_Node]:
        """This node and those above it, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


class _Holder:
    """A sequence id in use; a ``rank`` that is higher is evicted first."""

    __slots__ = ("node", "owner", "rank", "running")

    def __init__(self, owner: Hashable, node: _Node, rank: int) -> None:
        self.owner = owner
        self.node = node
        self.rank = rank
        self.running = True


class PrefixCache:
    """Sequence ids ``0 .. ids-1`` and what lies under them."""

    def __init__(self, ids: int) -> None:
        self._free = list(range(ids - 1, -1, -1))
        self._roots: dict[Hashable, _Node] = {}
        self._holders: dict[int, _Holder] = {}
        self._now = 0
        self.cells = 0
        """Cells of all tokens in the tree."""
        self.pinned = 0
        """Of these, cells that a running holder needs."""

    @property
    def idle(self) -> int:
        """Cells that only idle holders keep."""
        return self.cells - self.pinned

    # --- looking ------------------------------------------------------------------------------

    def match(self, owner: Hashable, tokens: Sequence[int], most: int) -> Match:
        """The longest of the owner's prefixes that the first ``most`` tokens begin with."""
        node, depth, idle = self._roots.get(owner), 0, 0
        while node is not None and depth < most:
            child = node.children.get(tokens[depth])
            if child is None:
                break
            same = common(child.tokens, tokens[depth : depth + len(child.tokens)], most - depth)
            depth += same
            idle += 0 if child.pins else same
            if same < len(child.tokens):
                break
            node = child
        return Match(depth, idle)

    def depth(self, seq: int) -> int:
        """How many tokens of a holder lie in the tree."""
        return self._holders[seq].node.end

    def pinned_by(self, seqs: Iterable[int]) -> int:
        """Cells in the tree that these holders need."""
        return sum(len(node.tokens) for node in {node for seq in seqs for node in self._holders[seq].node.way()})

    # --- running ------------------------------------------------------------------------------

    def begin(
        self, owner: Hashable, tokens: Sequence[int], most: int, rank: int = 0
    ) -> tuple[int, int, list[Cut | Share]]:
        """A sequence id for a sequence that runs, what of its first ``most`` tokens is there, and how it gets there.

        An idle holder makes place if every id is taken; there must be one.
        """
        done: list[Cut | Share] = [] if self._free else self._free_one()
        seq = self._free.pop()
        node, length = self._seek(owner, tokens, most)
        if length:
            done.append(Share(_some_holder(node), seq, 0, length))
        self._holders[seq] = _Holder(owner, node, rank)
        node.holders[seq] = None
        self._pin(node)
        self._touch(node)
        return seq, length, done

    def extend(self, seq: int, tokens: Sequence[int], upto: int) -> list[Cut | Share]:
        """A holder has computed its tokens up to there: others may share them now.

        Where the same tokens lie in the cache already, its own cells are given up for those.
        """
        holder, done = self._holders[seq], list[Cut | Share]()
        while (start := holder.node.end) < upto:
            child = holder.node.children.get(tokens[start])
            if child is None:
                self._grow(seq, holder, list(tokens[start:upto]))
                break
            same = common(child.tokens, tokens[start : start + len(child.tokens)], upto - start)
            if same < len(child.tokens):
                child = self._split(child, same)
            end = start + same
            done += [Cut(seq, start, end), Share(_some_holder(child), seq, start, end)]
            self._move(seq, holder, child)
        self._touch(holder.node)
        return done

    def retain(self, seq: int) -> list[Cut | Share]:
        """A holder has ended: what it published stays until the place is needed, its other cells go."""
        holder = self._holders[seq]
        node = holder.node
        done: list[Cut | Share] = [Cut(seq, node.end)] if node.end else []
        self._unpin(node)
        holder.running = False
        if node.parent is None or node.children or len(node.holders) > 1:
            return self._forget(seq)
        for above in node.way():
            for other in [it for it in above.holders if above is not node and not self._holders[it].running]:
                done += self._forget(other)
        self._merge(node)
        return done

    def drop(self, seq: int) -> list[Cut | Share]:
        """Forget all that a running holder has."""
        self._unpin(self._holders[seq].node)
        return self._forget(seq)

    # --- making place -------------------------------------------------------------------------

    def evict(self, cells: int) -> list[Cut | Share]:
        """Give up at least so many idle cells, or all there are: the least recently used first, ends before heads."""
        done, goal = list[Cut | Share](), self.cells - cells
        while self.cells > goal and (seq := self.oldest()) is not None:
            done += self._trim(seq, max(_BLOCK, self.cells - goal))
        return done

    def oldest(self) -> int | None:
        """The idle holder that should go first, of those whose going frees cells."""
        idle = ((seq, it) for seq, it in self._holders.items() if not it.running and _alone(it.node))
        first = min(idle, key=lambda item: (-item[1].rank, item[1].node.used), default=None)
        return None if first is None else first[0]

    def forget_owner(self, owner: Hashable) -> list[Cut | Share]:
        """Give up all that is idle of an owner."""
        idle = [seq for seq, it in self._holders.items() if it.owner == owner and not it.running]
        return [operation for seq in idle for operation in self._forget(seq)]

    def _free_one(self) -> list[Cut | Share]:
        """Take the sequence id of an idle holder: of one whose cells others hold too, if there is one."""
        idle = [seq for seq, it in self._holders.items() if not it.running]
        needless = next((seq for seq in idle if not _alone(self._holders[seq].node)), None)
        seq = self.oldest() if needless is None else needless
        assert seq is not None, "every sequence id belongs to a sequence that runs"
        return self._forget(seq)

    def _trim(self, seq: int, most: int) -> list[Cut | Share]:
        """Cut an idle leaf's end off; what it leaves of its way stays held, by itself or by others."""
        holder = self._holders[seq]
        node = holder.node
        parent = node.parent
        assert parent is not None, "nobody idle stands at a root"
        if most < len(node.tokens):
            del node.tokens[-most:]
            node.end -= most
            self.cells -= most
            return [Cut(seq, node.end)]
        if parent.parent is None or parent.holders or len(parent.children) > 1:
            return self._forget(seq)
        self._move(seq, holder, parent)
        self._prune(node, holder.owner)
        return [Cut(seq, parent.end)]

    def _forget(self, seq: int) -> list[Cut | Share]:
        holder = self._holders.pop(seq)
        del holder.node.holders[seq]
        self._free.append(seq)
        self._prune(holder.node, holder.owner)
        return [Cut(seq)]

    # --- the tree -----------------------------------------------------------------------------

    def _seek(self, owner: Hashable, tokens: Sequence[int], most: int) -> tuple[_Node, int]:
        """The node that ends where the longest match does."""
        node = self._roots.get(owner)
        if node is None:
            node = self._roots[owner] = _Node(None, [])
            return node, 0
        while node.end < most and (child := node.children.get(tokens[node.end])) is not None:
            same = common(child.tokens, tokens[node.end : node.end + len(child.tokens)], most - node.end)
            if same < len(child.tokens):
                node = self._split(child, same)
                break
            node = child
        return node, node.end

    def _split(self, node: _Node, at: int) -> _Node:
        """The new node above, which has the first ``at`` tokens."""
        parent = node.parent
        assert parent is not None, "a root has no tokens"
        upper = _Node(parent, node.tokens[:at])
        parent.children[upper.tokens[0]] = upper
        node.tokens = node.tokens[at:]
        node.parent = upper
        upper.children[node.tokens[0]] = node
        upper.pins, upper.used = node.pins, node.used
        return upper

    def _grow(self, seq: int, holder: _Holder, tokens: list[int]) -> None:
        node = holder.node
        self.cells += len(tokens)
        if node.parent is not None and not node.children and len(node.holders) == 1:
            node.tokens += tokens
            node.end += len(tokens)
            self.pinned += len(tokens)
            return
        child = node.children[tokens[0]] = _Node(node, tokens)
        self._move(seq, holder, child)

    def _move(self, seq: int, holder: _Holder, to: _Node) -> None:
        """To a child, which a running holder pins, or, idle, to the parent."""
        del holder.node.holders[seq]
        holder.node = to
        to.holders[seq] = None
        if holder.running:
            self.pinned += 0 if to.pins else len(to.tokens)
            to.pins += 1

    def _merge(self, node: _Node) -> None:
        """Make one node of it and of those above that nobody else needs."""
        while (above := node.parent) is not None and above.parent is not None:
            if above.holders or len(above.children) > 1:
                return
            node.tokens = above.tokens + node.tokens
            node.parent = above.parent
            above.parent.children[node.tokens[0]] = node

    def _prune(self, node: _Node, owner: Hashable) -> None:
        """Take away what nobody holds any more."""
        while not (node.holders or node.children):
            if node.parent is None:
                del self._roots[owner]
                return
            self.cells -= len(node.tokens)
            del node.parent.children[node.tokens[0]]
            node = node.parent

    def _pin(self, node: _Node) -> None:
        for it in node.way():
            self.pinned += 0 if it.pins else len(it.tokens)
            it.pins += 1

    def _unpin(self, node: _Node) -> None:
        for it in node.way():
            it.pins -= 1
            self.pinned -= 0 if it.pins else len(it.tokens)

    def _touch(self, node: _Node) -> None:
        self._now += 1
        for it in node.way():
            it.used = self._now


def _some_holder(node: _Node) -> int:
    """One who holds the whole way to a node."""
    while not node.holders:
        node = next(iter(node.children.values()))
    return next(iter(node.holders))


def _alone(node: _Node) -> bool:
    """Whether a node's one holder is all that keeps it."""
    return not node.children and len(node.holders) == 1
