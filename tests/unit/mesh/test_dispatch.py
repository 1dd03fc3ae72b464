"""The dispatcher over scripted peers and engines: each way an attempt can go, and all of them at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.domain import GenerationRequest, PeerId, Preference, Privacy, Sampling
from meshnode.engine.pool import open_pool
from meshnode.errors import (
    CapabilityUnavailable,
    Draining,
    InvalidField,
    ModelFailed,
    ModelNotFound,
    NobodyServes,
    Overloaded,
    ProtocolViolation,
    RequestError,
    ServingError,
    StreamReset,
    Unreachable,
)
from meshnode.events import Event, Failed, Finished, Loading, Queued, Started, TextDelta
from meshnode.mesh.answer import Route
from meshnode.mesh.course import MOST
from meshnode.mesh.dispatch import ELSEWHERE
from meshnode.mesh.ladder import ENOUGH
from meshnode.mesh.planning import SEEK_S
from meshnode.observe import Metrics
from tests.kit.askers import (
    ACCEPT,
    HANG,
    ScriptedEngines,
    answers,
    dies,
    model_offer,
    offer,
    refuses,
)
from tests.kit.dispatching import NEVER, Mesh, Script
from tests.kit.engines import Stable, constant_entropy
from tests.kit.requests import card, endless, prompt

BOB, CAROL, DAVE = PeerId("12D3KooWbobbob"), PeerId("12D3KooWcarol1"), PeerId("12D3KooWdave12")
OURS = card("m:q4_0")


def text(events: Sequence[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# --- one after the other --------------------------------------------------------------------------


async def test_a_peers_model_is_answered_by_the_peer(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: answers("hello")})
    events, route = await mesh.ask(prompt(model="M:Q4_0"))
    assert text(events) == "hello"
    assert route == Route(kind="peer", model=OURS.id, node=BOB, attempts=1, reason="the one peer")
    assert mesh.health.record(BOB).successes == 1
    assert mesh.sample('meshnode_requests_total{model="mesh",outcome="ok"}') == 1
    assert mesh.sample("meshnode_completion_tokens_total") == 5
    assert ELSEWHERE == "mesh"


FAILURES: dict[str, tuple[Script, str]] = {
    "refuses": (refuses("overloaded"), "refused (overloaded)"),
    "is refused by what has no name": (refuses("zzz"), "refused (peer_failed)"),
    "is unreachable": ([Unreachable("x")], "failed (peer_unreachable)"),
    "hangs": ([9.0, StreamReset("x")], "failed (stream_reset)"),
    "resets when accepted": ([ACCEPT, StreamReset("x")], "failed (stream_reset)"),
    "dies before a token": (dies(code="worker_died"), "failed (worker_died)"),
    "ends without an end": ([ACCEPT, Started(4)], "failed (internal_error)"),
    "breaks the protocol": ([ACCEPT, ProtocolViolation("x")], "failed (protocol_violation)"),
    "is slow, then dies": ([ACCEPT, 200.0, *dies()[1:]], "failed (stream_reset)"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_peer_that_fails_before_a_token_is_replaced_unnoticed(autojump_clock: MockClock, name: str) -> None:
    script, said = FAILURES[name]
    for peers in ({BOB: script, CAROL: answers("abc")}, {BOB: answers("abc"), CAROL: script}):
        mesh = Mesh(peers)
        events, route = await mesh.ask(prompt(model="m", sampling=Sampling()))
        assert [type(event).__name__ for event in events] == ["Started", *["TextDelta"] * 3, "Finished"]
        if script is peers[BOB]:
            assert (mesh.tried, route.node, route.attempts) == ([BOB, CAROL], CAROL, 2)
            assert route.reason == f"1 tried: 12D3..bobbob {said}"
            seeds = {request.sampling.seed for _, request in mesh.asker.asked}
            assert len(seeds) == 1
            assert None not in seeds
        else:
            assert (mesh.tried, route.attempts) == ([BOB], 1)


async def test_a_peer_that_dies_after_a_token_ends_the_answer(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: dies("ab", code="worker_died"), CAROL: answers()})
    events, route = await mesh.ask()
    assert text(events) == "ab"
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "peer_failed"
    assert "its own" not in events[-1].message
    assert (mesh.tried, route.attempts) == ([BOB], 1)
    assert mesh.health.record(BOB).failures == 1
    assert mesh.sample('meshnode_requests_total{model="mesh",outcome="peer_failed"}') == 1


async def test_everybody_refuses_and_all_of_them_are_named(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: refuses(retry_ms=9000), CAROL: refuses(retry_ms=3000), DAVE: dies()})
    events, _ = await mesh.ask()
    assert isinstance(events[-1], Failed)  # dave had accepted: the answer was open
    assert events[-1].code == "no_provider"
    for said in ("bobbob refused (overloaded)", "carol1 refused (overloaded)", "dave12 failed (stream_reset)"):
        assert said in events[-1].message
    assert events[-1].retry_after_s == 3.0
    with pytest.raises(NobodyServes, match="dave12 failed, not asked for 1 s"):
        await mesh.ask()
    assert mesh.tried == [BOB, CAROL, DAVE, BOB, CAROL]
    assert mesh.sample('meshnode_requests_total{model="mesh",outcome="no_provider"}') == 2


async def test_the_callers_own_fault_is_told_as_it_is_once_two_say_so(autojump_clock: MockClock) -> None:
    wrong = [InvalidField("no such thing.", param="stop")]
    mesh = Mesh({BOB: wrong, CAROL: wrong, DAVE: answers()})
    with pytest.raises(InvalidField, match="no such thing"):
        await mesh.ask()
    assert len(mesh.tried) == 2
    events, _ = await Mesh({BOB: dies(code="template_refused")}).ask()
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, events[-1].message) == ("template_refused", "its own template_refused.")
    events, route = await Mesh({BOB: wrong, CAROL: answers()}).ask()
    assert isinstance(events[-1], Finished)
    assert route.node == CAROL


async def test_an_alternate_that_a_refusal_names_is_asked_when_its_offer_is_known(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: [2.0, *refuses(alternates=[DAVE, "nobody"])], DAVE: answers()}, offers=[offer(BOB)])
    async with trio.open_nursery() as nursery:

        async def arrive() -> None:
            await trio.sleep(1)
            mesh.board.put(offer(DAVE))

        nursery.start_soon(arrive)
        _, route = await mesh.ask()
    assert (mesh.tried, route.node) == ([BOB, DAVE], DAVE)


async def test_an_offer_that_ended_meanwhile_is_passed_over(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: [2.0, *refuses()], CAROL: answers(), DAVE: answers()})
    async with trio.open_nursery() as nursery:

        async def depart() -> None:
            await trio.sleep(1)
            mesh.board.take_down(CAROL)

        nursery.start_soon(depart)
        _, route = await mesh.ask()
    assert (mesh.tried, route.node, mesh.health.record(CAROL).failures) == ([BOB, DAVE], DAVE, 0)


async def test_of_very_many_providers_each_request_looks_at_others(autojump_clock: MockClock) -> None:
    many = [PeerId(f"p{number}") for number in range(3000)]
    mesh = Mesh(dict.fromkeys(many, answers()), offers=[offer(peer) for peer in many])
    for _ in range(100):
        await mesh.ask()
    assert len(set(mesh.tried)) > 80


# --- this node among them -------------------------------------------------------------------------


async def test_this_node_answers_first_and_peers_when_it_cannot(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: answers("far")}, engines=ScriptedEngines(answers("near")), here=(OURS,))
    events, route = await mesh.ask()
    assert (text(events), route.kind, route.node) == ("near", "local", "alice")
    assert mesh.sample('meshnode_requests_total{model="m:q4_0",outcome="ok"}') == 1
    mesh = Mesh({BOB: answers("far")}, engines=ScriptedEngines(NEVER, state="failed"), here=(OURS,))
    events, route = await mesh.ask()
    assert (text(events), route.kind, route.attempts) == ("far", "peer", 1)
    assert mesh.sample('meshnode_requests_total{model="m:q4_0",outcome="ok"}') == 1


async def test_this_nodes_worker_dies_and_a_peer_goes_on_with_the_same_seed(autojump_clock: MockClock) -> None:
    engines = ScriptedEngines([ACCEPT, Loading(0.5), *dies(code="worker_died")[1:]], answers("again"))
    mesh = Mesh({BOB: [ACCEPT, Queued(3), *answers("far")[1:]]}, engines=engines, here=(OURS,))
    events, route = await mesh.ask(prompt(model="m", sampling=Sampling()))
    assert text(events) == "far"
    assert [type(event).__name__ for event in events[:3]] == ["Loading", "Started", "TextDelta"]
    assert (route.kind, route.attempts) == ("peer", 2)
    assert mesh.asker.asked[0][1].sampling.seed == engines.asked[0].sampling.seed is not None
    mesh = Mesh({BOB: refuses()}, engines=ScriptedEngines(dies(code="worker_died"), answers("again")), here=(OURS,))
    events, route = await mesh.ask()
    assert (text(events), route.kind, route.attempts) == ("again", "local", 3)


async def test_a_real_pool_fails_over_to_a_peer(autojump_clock: MockClock) -> None:
    stable, metrics = Stable(), Metrics()
    stable.failures = ["the file is truncated"]
    async with open_pool(stable.open, metrics=metrics, entropy=constant_entropy) as pool:
        mesh = Mesh({BOB: answers("far")}, engines=pool, here=(OURS,))
        events, route = await mesh.ask(endless(model="m"))
        assert (text(events), route.attempts) == ("far", 2)
        assert (await mesh.ask(endless(model="m")))[1].attempts == 1  # by now it is known to have failed
        await pool.load(OURS)
        assert (await mesh.ask(endless(model="m", tokens=3)))[1].kind == "local"
        await pool.drain()
        with pytest.raises(Draining):
            await mesh.ask(endless(model="m"))


async def test_alone_the_engines_own_error_is_told(autojump_clock: MockClock) -> None:
    with pytest.raises(ModelFailed):
        await Mesh({}, engines=ScriptedEngines(NEVER, state="failed"), here=(OURS,)).ask()


async def test_a_node_without_an_engine_has_no_models_of_its_own(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: answers("far")}, here=(OURS,), answers_itself=False)
    assert text((await mesh.ask())[0]) == "far"
    assert text((await mesh.ask(prompt(model="")))[0]) == "far"


# --- names ----------------------------------------------------------------------------------------


async def test_a_bare_name_is_served_by_any_quantisation(autojump_clock: MockClock) -> None:
    offers = [offer(BOB, model_offer("m:q4_0")), offer(CAROL, model_offer("M:Q8_0", decode_tps=9.0))]
    mesh = Mesh({BOB: refuses(), CAROL: answers()}, offers=offers)
    _, route = await mesh.ask(prompt(model="mine"))
    assert (mesh.tried, route.model) == ([BOB, CAROL], "M:Q8_0")
    assert [request.model for _, request in mesh.asker.asked] == ["m:q4_0", "M:Q8_0"]


async def test_an_unknown_name_is_sought_and_then_known(autojump_clock: MockClock) -> None:
    async def found(name: str) -> None:
        await trio.sleep(1)
        mesh.board.put(offer(BOB, model_offer("rare:f16")))

    mesh = Mesh({BOB: answers()}, offers=[], seek=found)
    assert text((await mesh.ask(prompt(model="rare")))[0]) == "abc"
    assert mesh.sought == ["rare"]
    await mesh.ask(prompt(model="rare"))
    assert mesh.sought == ["rare"]


@pytest.mark.parametrize(("deadline_s", "waited"), [(None, SEEK_S), (1.0, 1.0)])
async def test_a_name_is_sought_for_a_while_and_then_unknown(
    autojump_clock: MockClock, deadline_s: float | None, waited: float
) -> None:
    async def endless_search(name: str) -> None:
        await trio.sleep(99)

    mesh = Mesh({BOB: answers()}, seek=endless_search, here=(card("near:f16"),))
    began = trio.current_time()
    with pytest.raises(ModelNotFound, match="near"):
        await mesh.ask(prompt(model="neat", deadline_s=deadline_s))
    assert trio.current_time() - began == waited


async def test_a_directory_that_fails_is_a_name_unknown(autojump_clock: MockClock) -> None:
    async def lost(name: str) -> None:
        raise Unreachable("no directory.")

    with pytest.raises(ModelNotFound):
        await Mesh({}, seek=lost).ask(prompt(model="x"))


async def test_a_private_name_is_not_told_to_the_directory(autojump_clock: MockClock) -> None:
    mesh = Mesh({BOB: NEVER})
    with pytest.raises(ModelNotFound):
        await mesh.ask(prompt(model="secret-project", privacy=Privacy.CONFIDENTIAL))
    assert mesh.sought == []


async def test_a_private_request_stays_here_or_is_refused(autojump_clock: MockClock) -> None:
    for privacy in (Privacy.PROTECTED, Privacy.PRIVATE_GATEWAY, Privacy.CONFIDENTIAL):
        mesh = Mesh({BOB: NEVER})
        with pytest.raises(CapabilityUnavailable, match=privacy.value):
            await mesh.ask(prompt(model="m", privacy=privacy))
        mesh = Mesh({BOB: NEVER}, engines=ScriptedEngines(answers("near")), here=(OURS,))
        assert (await mesh.ask(prompt(model="m", privacy=privacy)))[1].kind == "local"
        mesh = Mesh({BOB: NEVER}, engines=ScriptedEngines(dies(code="worker_died")), here=(OURS,))
        events, _ = await mesh.ask(prompt(model="m", privacy=privacy))
        assert isinstance(events[-1], Failed)
        assert mesh.tried == []


async def test_no_prompt_and_no_words_of_a_peer_are_logged(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        await Mesh({BOB: refuses(), CAROL: dies(), DAVE: answers("an answer")}).ask(prompt("my diary", model="m"))
    assert [entry["event"] for entry in logs] == ["request_retried", "request_retried", "request_ended"]
    assert not any(word in repr(logs) for word in ("diary", "answer", "own words", "its own"))


# --- whatever happens -----------------------------------------------------------------------------

STEPS: list[Script] = [
    *(script for script, _ in FAILURES.values()),
    answers("abc"),
    answers("x", after=5.0),
    dies("ab"),
    dies("a", code="zzz"),
    dies(code="template_refused"),
    [ACCEPT, Started(1), Started(2), Queued(1), TextDelta("a"), StreamReset("x")],
    [ACCEPT, Queued(2), Queued(1), Loading(0.1), 3.0, *answers("abc")[1:]],
    [HANG],
    [ACCEPT, HANG],
    [InvalidField("x")],
    refuses("context_length_exceeded"),
    refuses(alternates=[BOB, CAROL, DAVE, "eve", "frank", "grace"]),
]
OWN: list[Script] = [
    answers("abc"),
    answers("x", after=5.0),
    dies(code="worker_died"),
    dies("ab", code="worker_died"),
    dies(code="model_failed"),
    dies(code="context_length_exceeded"),
    [Overloaded("full.", retry_after_s=5.0)],
    [ACCEPT, Queued(2), Loading(0.1), 3.0, *answers("abc")[1:]],
    [ACCEPT, HANG],
]
"""What this node's own engine may do."""
NAMES = [BOB, CAROL, DAVE, *map(PeerId, ("eve", "frank", "grace", "heidi"))]


def _some_mesh(chance: random.Random) -> tuple[Mesh, GenerationRequest]:
    peers = {name: [chance.choice(STEPS) for _ in range(3)] for name in NAMES}
    shown = chance.sample(NAMES, chance.randrange(len(NAMES) + 1))
    models = [model_offer("m:q4_0"), model_offer("m:q8_0", state="unloaded"), model_offer("n", decode_tps=1.0)]
    privacies = [("standard",), ("standard", "protected"), tuple(Privacy), ()]
    offers = [
        offer(name, *chance.sample(models, chance.randint(1, 3)), privacy=chance.choice(privacies)) for name in shown
    ]
    engines = ScriptedEngines(
        *(chance.choice(OWN) for _ in range(3)), state=chance.choice(["ready", "failed", "unloaded"])
    )
    here = chance.choice([(), (OURS,), (card("n"), OURS)])
    request = prompt(
        model=chance.choice(["m", "m:q4_0", "n", "", "nowhere", "fast", "best:tools"]),
        fallbacks=tuple(chance.sample(["m:q8_0", "n", "nowhere", "cheapest"], chance.choice([0, 0, 1, 2]))),
        provider=chance.choice([Preference(), Preference(), Preference(ignore=(BOB,)), Preference(fallbacks=False)]),
        privacy=chance.choice([Privacy.STANDARD, *Privacy]),
        deadline_s=chance.choice([None, 2.0, 400.0]),
        sampling=Sampling(seed=chance.choice([None, 7])),
        max_cost_uc=chance.choice([None, 10, 10**6]),
    )
    return Mesh(peers, offers=offers, engines=engines, here=here, chance=chance), request


async def _check_one(chance: random.Random) -> str:
    """Ask in some mesh, hold what must hold whatever happens; gives how it ended."""
    mesh, request = _some_mesh(chance)
    route, events, ended, opened = None, [], "", False
    try:
        async with mesh.dispatcher.open(request) as answer:
            async for event in answer:
                events.append(event)
            route = answer.route
    except (RequestError, ServingError) as error:
        ended = error.code
        opened = bool(events)
    else:
        ends = [event for event in events if isinstance(event, Finished | Failed)]
        assert ends == events[-1:]
        ended = "ok" if isinstance(ends[0], Finished) else ends[0].code
    assert not opened, "an answer that was opened ends by an event"
    assert sum(isinstance(event, Started) for event in events) <= 1
    attempts = len(mesh.tried) + len(mesh.engines.asked)  # type: ignore[attr-defined]
    assert attempts < ENOUGH + MOST == 13
    assert route is None or route.attempts >= attempts
    assert request.fallbacks or len({(peer, asked.model) for peer, asked in mesh.asker.asked}) == len(mesh.tried)
    assert BOB not in mesh.tried or not request.provider.ignore
    if request.privacy is not Privacy.STANDARD:
        assert mesh.tried == [], "a private request went to a peer"
    seeds = [r.sampling.seed for r in (*mesh.engines.asked, *(r for _, r in mesh.asker.asked))]  # type: ignore[attr-defined]
    assert len(set(seeds)) <= 1
    assert None not in seeds
    assert mesh.asker.open == 0
    assert mesh.sample("meshnode_requests_processing") == 0
    return ended


async def test_two_thousand_outcomes_none_of_them_a_downgrade(autojump_clock: MockClock) -> None:
    endings = {await _check_one(random.Random(number)) for number in range(2000)}
    assert endings >= {
        "ok",
        "no_provider",
        "model_not_found",
        "capability_unavailable",
        "stream_reset",
        "deadline_exceeded",
    }
