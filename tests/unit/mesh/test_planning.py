"""Names and modes of a request as the models that are tried, over models here and at peers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import ModelId, PeerId, Preference
from meshnode.errors import CapabilityUnavailable, ModelNotFound, NobodyServes, PeerError
from meshnode.mesh.planning import MOST_MODELS, MOST_OF_EACH, SEEK_S
from meshnode.wire.fields import Prices
from tests.kit.askers import ScriptedEngines, answers, dies, model_offer, offer, refuses
from tests.kit.dispatching import NEVER, Mesh
from tests.kit.requests import card, embedding, prompt

BOB, CAROL, DAVE = PeerId("12D3KooWbobbob"), PeerId("12D3KooWcarol1"), PeerId("12D3KooWdave12")
BIG = model_offer("big-8b:q4_0", parameters=8 * 10**9, decode_tps=5.0, features=("tools",))
QUICK = model_offer("quick-1b:q4_0", decode_tps=500.0, prices=Prices(9, 9, 900, 9))
EYES = model_offer("eyes:q4_0", modalities=("text", "image"), decode_tps=1.0)
OURS = card("ours:q4_0")


def mesh(*, here: tuple[Any, ...] = (), engines: Any = None, **fields: Any) -> Mesh:
    """Three peers, each with a model that is best at something; they answer with its name."""
    offers = [offer(BOB, BIG), offer(CAROL, QUICK), offer(DAVE, EYES)]
    scripts = {BOB: answers("big"), CAROL: answers("quick"), DAVE: answers("eyes")}
    return Mesh(fields.pop("scripts", scripts), here=here, engines=engines, offers=offers, **fields)


async def model_of(asked: Mesh, **fields: Any) -> tuple[str, str]:
    """Which model answered, and why."""
    _, route = await asked.ask(prompt(**fields))
    return route.model, route.reason


# --- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "answered", "reason"),
    [
        ("fast", "quick-1b:q4_0", "fast: the one peer"),
        ("best", "big-8b:q4_0", "best: the one peer"),
        ("cheapest", "big-8b:q4_0", "cheapest: the one peer"),
        ("auto", "quick-1b:q4_0", "auto: the one peer"),
        ("", "quick-1b:q4_0", "auto: the one peer"),
        ("FAST:vision", "eyes:q4_0", "fast:vision: the one peer"),
        ("best:tools", "big-8b:q4_0", "best:tools: the one peer"),
    ],
)
async def test_a_mode_finds_a_model_among_those_of_peers(
    autojump_clock: MockClock, model: str, answered: str, reason: str
) -> None:
    assert await model_of(mesh(), model=model) == (answered, reason)


async def test_auto_stays_here_where_it_can(autojump_clock: MockClock) -> None:
    asked = mesh(here=(OURS,), engines=ScriptedEngines(answers("ours")))
    for model in ("", "auto", "cheapest"):
        assert await model_of(asked, model=model) == (OURS.id, f"{model or 'auto'}: loaded here")
    assert asked.tried == []
    assert await model_of(asked, model="best:vision") == ("eyes:q4_0", "best:vision: the one peer")


async def test_auto_goes_to_peers_when_the_engine_here_cannot(autojump_clock: MockClock) -> None:
    asked = mesh(here=(OURS,), engines=ScriptedEngines(NEVER, state="failed"))
    model, reason = await model_of(asked, model="auto")
    assert (model, reason) == ("quick-1b:q4_0", "auto: the one peer")
    dying = mesh(here=(OURS,), engines=ScriptedEngines(refuses()))
    assert await model_of(dying, model="") == (
        "quick-1b:q4_0", "instead of auto = ours:q4_0 (peer_refused): auto: the one peer",
    )  # fmt: skip


async def test_a_mode_tries_the_next_best_model(autojump_clock: MockClock) -> None:
    asked = mesh(scripts={BOB: answers(), CAROL: dies(), DAVE: NEVER})
    assert await model_of(asked, model="fast") == (
        "big-8b:q4_0", "instead of fast = quick-1b:q4_0 (no_provider): fast: the one peer",
    )  # fmt: skip


async def test_what_no_model_can_is_refused_by_name(autojump_clock: MockClock) -> None:
    for model in ("auto:audio", "fast:embed"):
        with pytest.raises(CapabilityUnavailable, match="no model, here or offered by a peer, has") as caught:
            await model_of(mesh(), model=model)
        assert caught.value.param == "model"
    with pytest.raises(CapabilityUnavailable, match="has embed"):
        await mesh().ask(embedding("x", model=""))
    with pytest.raises(ModelNotFound, match="no such capability"):
        await model_of(mesh(), model="fast:flying")


async def test_with_no_model_anywhere_a_mode_says_that(autojump_clock: MockClock) -> None:
    for model in ("", "auto", "best:tools"):
        with pytest.raises(ModelNotFound, match="there are no models here, and no peer offers one"):
            await Mesh({}, offers=[]).ask(prompt(model=model))


async def test_a_model_or_an_alias_of_that_name_goes_first(autojump_clock: MockClock) -> None:
    asked = mesh(here=(OURS, card("fast:q4_0")), engines=ScriptedEngines(answers("mine")))
    assert (await model_of(asked, model="fast"))[0] == "fast:q4_0"
    named = Mesh({BOB: answers()}, offers=[offer(BOB, model_offer("best:q8_0"), BIG)])
    assert (await model_of(named, model="best"))[0] == "best:q8_0"


async def test_the_configured_default_stands_for_no_name(autojump_clock: MockClock) -> None:
    asked = mesh(here=(OURS,), engines=ScriptedEngines(answers()), default_model="big-8b")
    assert (await model_of(asked, model=""))[0] == "big-8b:q4_0"
    lost = mesh(default_model="nowhere")
    with pytest.raises(ModelNotFound, match="nowhere"):
        await model_of(lost, model="")


async def test_the_wishes_of_the_caller_hold_in_a_mode(autojump_clock: MockClock) -> None:
    assert (await model_of(mesh(), model="fast", provider=Preference(ignore=(CAROL,))))[0] == "big-8b:q4_0"
    with pytest.raises(CapabilityUnavailable, match="provider leaves nobody"):
        await model_of(mesh(), model="fast", provider=Preference(here_only=True))


async def test_without_fallbacks_a_mode_tries_one_model(autojump_clock: MockClock) -> None:
    for here in ((), (OURS,)):
        asked = mesh(scripts={BOB: NEVER, CAROL: refuses(), DAVE: NEVER}, here=here, engines=ScriptedEngines(refuses()))
        with pytest.raises((NobodyServes, PeerError)):
            await model_of(asked, model="auto", provider=Preference(fallbacks=False))
        assert asked.tried == ([] if here else [CAROL])


async def test_a_mode_after_a_name_finds_another_model(autojump_clock: MockClock) -> None:
    asked = mesh(scripts={BOB: answers(), CAROL: dies(), DAVE: NEVER})
    model, _ = await model_of(asked, model="quick-1b", fallbacks=(ModelId("fast"),))
    assert (model, asked.tried) == ("big-8b:q4_0", [CAROL, BOB])


# --- lists ----------------------------------------------------------------------------------------


async def test_fallbacks_are_tried_in_order(autojump_clock: MockClock) -> None:
    asked = mesh(scripts={BOB: dies(), CAROL: answers(), DAVE: NEVER})
    request = prompt(model="nowhere", fallbacks=(ModelId("big-8b"), ModelId("quick-1b"), ModelId("eyes")))
    _, route = await asked.ask(request)
    assert (route.model, route.attempts) == ("quick-1b:q4_0", 2)
    assert route.reason == "instead of nowhere (model_not_found), big-8b (no_provider): the one peer"
    assert asked.sought == [], "where one name is known, the others are not looked for"
    assert {len(one.fallbacks) for _, one in asked.asker.asked} == {0}, "what chooses the model does not travel"


async def test_without_a_model_the_first_of_the_list_takes_its_place(autojump_clock: MockClock) -> None:
    _, route = await mesh(here=(OURS,)).ask(prompt(model="", fallbacks=(ModelId("eyes"), ModelId("big-8b"))))
    assert route.model == "eyes:q4_0"


async def test_the_last_error_names_all_that_were_tried(autojump_clock: MockClock) -> None:
    asked = mesh(scripts={BOB: refuses("context_length_exceeded"), CAROL: NEVER, DAVE: NEVER})
    with pytest.raises(ModelNotFound) as caught:
        await asked.ask(prompt(model="big-8b", fallbacks=(ModelId("nowhere"),)))
    assert "Tried in vain: big-8b (context_length_exceeded), nowhere (model_not_found)." in caught.value.message


async def test_names_that_nobody_knows_are_looked_for_together(autojump_clock: MockClock) -> None:
    async def seek(name: str) -> None:
        if name == "late":
            asked.board.put(offer(CAROL, model_offer("late:q4_0")))
            return
        await trio.sleep(1)

    asked = Mesh({CAROL: answers()}, offers=[], seek=seek)
    _, route = await asked.ask(prompt(model="x", fallbacks=(ModelId("late"),)))
    assert (route.model, asked.sought) == ("late:q4_0", ["x", "late"])
    began = trio.current_time()
    with pytest.raises(ModelNotFound, match="Tried in vain"):
        await asked.ask(prompt(model="a", fallbacks=tuple(map(ModelId, "bcdefgh"))))
    assert trio.current_time() - began <= SEEK_S


# --- what is shown --------------------------------------------------------------------------------


def test_a_plan_is_told_without_asking_anybody() -> None:
    async def main() -> None:
        asked = mesh(here=(OURS,), engines=ScriptedEngines(NEVER))
        request = prompt(model="auto", fallbacks=(ModelId("nowhere"),), provider=Preference(ignore=(BOB,)))
        rungs = list(asked.dispatcher.explain(request))
        assert [rung.name for rung in rungs] == [
            "auto = ours:q4_0", "auto = quick-1b:q4_0", "auto = eyes:q4_0", "auto = big-8b:q4_0", "nowhere",
        ]  # fmt: skip
        assert [candidate.kind for candidate in rungs[0].plan.candidates] == ["local"]
        assert [rejection.gate for rejection in rungs[3].plan.rejections] == ["provider"]
        assert isinstance(rungs[4].error, ModelNotFound)
        assert asked.tried == asked.sought == []

    trio.run(main)


async def test_how_fast_answers_were_is_kept(autojump_clock: MockClock) -> None:
    asked = mesh(scripts={BOB: answers("x" * 20), CAROL: answers(after=2.0), DAVE: dies("x")})
    await model_of(asked, model="quick-1b")
    pace = asked.dispatcher.samples.pace(ModelId("quick-1b:q4_0"))
    assert (pace.answers, pace.first_token_s) == (1, 2.0)
    await model_of(asked, model="eyes")
    assert asked.dispatcher.samples.pace(ModelId("eyes:q4_0")).answers == 0


def test_a_mode_does_not_look_at_everybody() -> None:
    offers = [offer(f"peer{at}", model_offer(f"m{at % 500}:q4_0", decode_tps=1.0 + at)) for at in range(10_000)]

    async def main() -> None:
        asked = Mesh({}, offers=offers)
        list(asked.dispatcher.explain(prompt(model="fast")))
        assert asked.board.looked == MOST_MODELS * MOST_OF_EACH + 3 * 20  # then at all of the three it chose

    trio.run(main)
