"""Every model without a hash gets its turn, once, and waiting for them ends."""

from __future__ import annotations

import trio

from meshnode.domain import ModelCard, ModelId
from meshnode.models.hasher import Hasher


def card(model: str, sha256: str = "") -> ModelCard:
    """A card that only its id and hash matter of."""
    return ModelCard(
        id=ModelId(model), path="", size=1, modified_ns=0, sha256=sha256, architecture="", quantisation="",
        context_length=1,
    )  # fmt: skip


async def test_those_without_a_hash_are_taken_in_turn() -> None:
    taken: list[ModelId] = []
    hasher = Hasher()

    async def hash_model(model: ModelId) -> None:
        taken.append(model)
        await trio.lowlevel.checkpoint()

    with trio.fail_after(10):
        await hasher.settled()
        async with trio.open_nursery() as nursery:
            hasher.later([card("a"), card("b", "known"), card("c"), card("a")])
            nursery.start_soon(hasher.run, hash_model)
            await hasher.settled()
            assert taken == ["a", "c"]
            hasher.later([card("d")])
            await hasher.settled()
            nursery.cancel_scope.cancel()
    assert taken == ["a", "c", "d"]
