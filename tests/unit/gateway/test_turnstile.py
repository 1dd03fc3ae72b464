"""Waiting for one's turn."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from meshnode.errors import Overloaded
from meshnode.gateway.admission import Admission
from meshnode.gateway.turnstile import Turnstile


async def test_those_who_wait_hear_of_every_move_and_go_in_order() -> None:
    turnstile = Turnstile(Admission(max_generating=1, max_queued=5))
    seen: dict[str, list[int]] = {}
    order: list[str] = []

    async def request(name: str) -> None:
        with turnstile.turn() as turn:
            while position := turn.position:
                seen.setdefault(name, []).append(position)
                await turn.changed.wait()
            order.append(name)

    async with trio.open_nursery() as nursery:
        with turnstile.turn() as first:
            assert first.position == 0
            for name in ("a", "b", "c"):
                nursery.start_soon(request, name)
                while turnstile.admission.queued < len("abc"[: "abc".index(name) + 1]):
                    await trio.lowlevel.checkpoint()
    assert order == ["a", "b", "c"]
    assert seen["c"][0] == 3
    assert turnstile.admission.generating == 0


async def test_one_that_gives_up_leaves_no_place_behind() -> None:
    turnstile = Turnstile(Admission(max_generating=1, max_queued=1))
    with turnstile.turn():
        with turnstile.turn() as waiting:
            assert waiting.position == 1
            with pytest.raises(Overloaded), turnstile.turn():
                pass
        assert turnstile.admission.queued == 0
    assert turnstile.admission.generating == 0
