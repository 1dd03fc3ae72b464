"""Sessions stay where their last answer came from, as long as that is no loss."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.domain import OWNER, CallerId, ModelId, PeerId, Preference
from meshnode.mesh.answer import Route
from meshnode.mesh.route import Candidate
from meshnode.mesh.sticky import MOST, WARM_S, Place, Sessions, kept
from tests.kit.askers import answers, model_offer, offer, refuses
from tests.kit.dispatching import Mesh
from tests.kit.requests import prompt

M = ModelId("m")
BOB, CAROL = PeerId("12D3KooWbobbob"), PeerId("12D3KooWcarol1")


def one(node: str, expected_ms: float) -> Candidate:
    """A candidate."""
    return Candidate(kind="peer", node=node, model=M, reason="1 of 2 peers", expected_ms=expected_ms)


def test_the_sessions_place_goes_first_unless_it_is_much_slower() -> None:
    quick, slow, slowest = one("a", 100.0), one("b", 199.0), one("c", 300.0)
    plan = (quick, slow, slowest)
    first, *rest = kept(plan, Place(M, "b"))
    assert (first.node, first.reason, rest) == ("b", "1 of 2 peers, where the session is", [quick, slowest])
    for place in (None, Place(M, "a"), Place(M, "c"), Place(M, "gone"), Place(ModelId("n"), "b")):
        assert kept(plan, place) == plan
    assert kept((), Place(M, "a")) == ()


PLANS = st.lists(st.builds(one, st.sampled_from("abcd"), st.floats(0, 1000)), max_size=4, unique_by=lambda c: c.node)


@given(PLANS, st.sampled_from("abcdx"))
def test_at_most_one_moves_and_the_others_stay_in_order(plan: list[Candidate], node: str) -> None:
    made = kept(plan, Place(M, node))
    assert len(made) == len(plan)
    assert not made or made[0].node in (plan[0].node, node)
    assert list(made[1:]) == [candidate for candidate in plan if candidate.node != made[0].node]


def test_each_caller_has_its_own_sessions_and_they_are_forgotten_in_time() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    sessions.answered(OWNER, "s", Route("peer", M, "bob"))
    sessions.answered(OWNER, None, Route("peer", M, "carol"))
    assert sessions.place(OWNER, "s") == Place(M, "bob")
    assert sessions.place(CallerId("key:1"), "s") is None
    assert sessions.place(OWNER, None) is sessions.place(OWNER, "t") is None
    now = WARM_S + 1
    assert sessions.place(OWNER, "s") is None
    for number in range(MOST):
        sessions.answered(OWNER, f"s{number}", Route("peer", M, "bob"))
    now = 0.0
    assert sessions.place(OWNER, "s") is None
    assert sessions.place(OWNER, "s0") == Place(M, "bob")


async def test_a_conversation_stays_with_the_peer_that_knows_it(autojump_clock: MockClock) -> None:
    near = [offer(BOB, model_offer(decode_tps=50.0)), offer(CAROL, model_offer(decode_tps=40.0))]
    mesh = Mesh({BOB: [refuses(), answers()], CAROL: [answers()]}, offers=near)
    _, route = await mesh.ask(prompt(model="m", session="s", provider=Preference(order=(BOB,))))
    assert (route.node, mesh.tried) == (CAROL, [BOB, CAROL])
    await trio.sleep(5)
    for _ in range(4):
        _, route = await mesh.ask(prompt(model="m", session="s"))
        assert route.node == CAROL
    _, route = await mesh.ask(prompt(model="m", session="s", provider=Preference(order=(BOB,))))
    assert route.node == BOB, "who is named goes before where the session is"


async def test_a_mode_goes_on_with_the_sessions_model(autojump_clock: MockClock) -> None:
    offers = [offer(BOB, model_offer("a:q4_0", decode_tps=50.0)), offer(CAROL, model_offer("b:q4_0", decode_tps=40.0))]
    mesh = Mesh({BOB: answers(), CAROL: answers()}, offers=offers)
    assert (await mesh.ask(prompt(model="b", session="s")))[1].model == "b:q4_0"
    for model in ("fast", "auto", "best"):
        assert (await mesh.ask(prompt(model=model, session="s")))[1].model == "b:q4_0"
        assert (await mesh.ask(prompt(model="fast", session=None)))[1].model == "a:q4_0"
