"""A bound on the cost holds over all attempts together."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from meshnode.domain import PeerId
from meshnode.errors import CapabilityUnavailable, NobodyServes
from meshnode.events import Failed
from meshnode.mesh.budget import Budget
from meshnode.wire.fields import Prices
from tests.kit.askers import answers, dies, refuses
from tests.kit.dispatching import Mesh
from tests.kit.requests import prompt

PRICES = Prices(1, 1, 10, 100)
BOB, CAROL = PeerId("12D3KooWbobbob"), PeerId("12D3KooWcarol1")


def test_without_a_bound_or_an_attempt_the_request_is_as_it_was() -> None:
    for request in (prompt(), prompt(max_cost_uc=50)):
        assert Budget().within(request, PRICES) is request


async def test_what_a_failed_attempt_cost_is_gone(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: dies(), CAROL: answers()})
    await mesh.ask(prompt(model="m", tokens=5, max_cost_uc=1000))
    assert [(peer, request.max_cost_uc) for peer, request in mesh.asker.asked] == [(BOB, 1000), (CAROL, 800)]
    free = Mesh({BOB: refuses(), CAROL: answers()})
    await free.ask(prompt(model="m", tokens=5, max_cost_uc=1000))
    assert [request.max_cost_uc for _, request in free.asker.asked] == [1000, 1000]


async def test_where_too_little_is_left_nobody_else_is_asked(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: dies(), CAROL: answers()})
    events, _ = await mesh.ask(prompt(model="m", tokens=5, max_cost_uc=250))
    assert isinstance(events[-1], Failed)
    assert mesh.tried == [BOB]
    assert events[-1].code == NobodyServes.code
    assert CapabilityUnavailable.code in events[-1].message
    assert mesh.health.record(CAROL).failures == 0


async def test_without_a_bound_attempts_are_not_counted(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: dies(), CAROL: answers()})
    await mesh.ask(prompt(model="m"))
    assert [request.max_cost_uc for _, request in mesh.asker.asked] == [None, None]


async def test_an_attempt_that_is_left_early_is_counted_too() -> None:
    budget = Budget()
    playing = Mesh({BOB: answers()}).asker
    offered = Mesh({BOB: answers()}).board.offers(0.0)[0]
    request = prompt(model="m:q4_0", max_cost_uc=450)
    async with budget.spending(playing.ask(BOB, request, offered, offered.models[0])) as events:
        await anext(events)
        await anext(events)
    assert budget.within(request, PRICES).max_cost_uc == 250
    async with budget.spending(playing.ask(BOB, request, offered, offered.models[0])) as events:
        await anext(events)
        await anext(events)
    with pytest.raises(CapabilityUnavailable, match="400 µc of max_cost") as caught:
        budget.within(request, PRICES)
    assert caught.value.param == "max_cost"
