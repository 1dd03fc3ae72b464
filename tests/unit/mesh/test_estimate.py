"""What requests need, and what answering them is expected to take."""

from __future__ import annotations

import pytest

from meshnode.domain import (
    AudioPart,
    Constraint,
    ConstraintKind,
    GenerationRequest,
    ImagePart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolChoice,
    ToolMode,
)
from meshnode.engine.pipe import Gauge
from meshnode.engine.slot import ModelState
from meshnode.mesh.estimate import FEATURES, OUTPUT_TOKENS, affordable, busyness, cost_uc, needs, of_local, of_peer
from meshnode.mesh.estimate import features as features_of
from meshnode.mesh.health import UNKNOWN, History
from meshnode.wire.fields import Prices
from tests.kit.askers import model_offer
from tests.kit.requests import card, embedding, prompt, ranking

TOOL = Tool(name="look", parameters='{"type": "object"}')


def test_a_prompts_tokens_are_guessed_from_its_text_or_counted() -> None:
    assert needs(prompt("x" * 400)).prompt == 100
    assert needs(prompt(prompt=(1, 2, 3))).prompt == 3
    talk = tuple(Message(role=Role.USER, parts=(TextPart("x" * 40),)) for _ in range(10))
    assert needs(prompt(prompt=None, messages=talk)).prompt == 140
    assert needs(prompt("")).prompt == 1


def test_the_answers_length_is_what_was_asked_or_a_guess() -> None:
    bounded, open_ = needs(prompt("x" * 40, tokens=500)), needs(prompt("x" * 40))
    assert (bounded.output, bounded.least_context, bounded.full_context) == (500, 11, 510)
    assert (open_.output, open_.least_context, open_.full_context) == (OUTPUT_TOKENS, 11, 11)


def test_a_conversation_that_may_be_shortened_fits_any_context() -> None:
    assert needs(prompt("x" * 400, transforms=("middle-out",))).least_context == 1


def test_the_bodys_size_counts_text_and_media() -> None:
    parts = (TextPart("x" * 10), ImagePart("data:" + "y" * 95), AudioPart(b"z" * 900, "wav"))
    need = needs(prompt(prompt=None, messages=(Message(role=Role.USER, parts=parts),), tools=(TOOL,)))
    assert need.body >= 1010 + len(TOOL.parameters)
    assert need.modalities == {"image", "audio"}


@pytest.mark.parametrize(
    ("request_", "features"),
    [
        (prompt(), set()),
        (prompt(tools=(TOOL,)), {"tools"}),
        (prompt(tools=(TOOL,), tool_choice=ToolChoice(mode=ToolMode.NONE)), set()),
        (prompt(constraint=Constraint(kind=ConstraintKind.JSON_SCHEMA)), {"schema"}),
        (prompt(constraint=Constraint(kind=ConstraintKind.GRAMMAR)), {"grammar"}),
        (prompt(top_logprobs=0), {"logprobs"}),
    ],
)
def test_features_are_named_as_in_offers(request_: GenerationRequest, features: set[str]) -> None:
    assert needs(request_).features == features <= set(FEATURES)
    assert features_of(request_) == tuple(sorted(features))


def test_a_request_costs_its_tokens_but_never_less_than_the_least() -> None:
    prices = Prices(3, 1, 20, 500)
    assert cost_uc(prices, prompt=10, output=10) == 500
    assert cost_uc(prices, prompt=100, output=100) == 2300


def test_a_peers_time_is_its_queue_its_start_the_road_and_its_tokens() -> None:
    need = needs(prompt(tokens=100))
    idle = of_peer(need, model_offer(), UNKNOWN, 0.02, True)
    assert (idle.queue_ms, idle.first_ms, idle.rest_ms) == (0.0, 120.0, 2000.0)
    assert idle.total_ms == 2120.0
    assert of_peer(need, model_offer(), UNKNOWN, 0.02, False).first_ms == 180.0
    full = of_peer(need, model_offer(free=0, queue=7), UNKNOWN, 0.02, True)
    assert full.queue_ms == 2 * 2100.0
    assert of_peer(need, model_offer(state="unloaded"), UNKNOWN, 0.02, True).first_ms > 5000


def test_what_was_measured_counts_more_than_what_is_offered_and_failures_cost() -> None:
    need = needs(prompt(tokens=100))
    known = of_peer(need, model_offer(), History(first_token_s=1.0, decode_tps=10.0), 0.0, True)
    assert (known.first_ms, known.rest_ms) == (1000.0, 10_000.0)
    once = of_peer(need, model_offer(), History(score=0.5), 0.0, True)
    assert once.total_ms == 2 * of_peer(need, model_offer(), UNKNOWN, 0.0, True).total_ms
    assert of_peer(need, model_offer(decode_tps=0.0, first_token_ms=0.0), History(score=0.0), None, True).total_ms > 0


def test_this_nodes_time_counts_its_queue_and_its_loading() -> None:
    need = needs(prompt(tokens=100))
    state = ModelState(id=card("m").id, state="ready")
    assert of_local(need, state).queue_ms == 0
    waits = ModelState(id=card("m").id, state="ready", gauge=Gauge(running=1, waiting=3))
    assert of_local(need, waits).queue_ms > of_local(need, state).total_ms
    half = ModelState(id=card("m").id, state="loading", progress=0.5)
    cold = ModelState(id=card("m").id, state="unloaded")
    assert of_local(need, state).first_ms < of_local(need, half).first_ms < of_local(need, cold).first_ms


def test_a_peer_is_as_busy_as_its_places_are_full() -> None:
    loads = [model_offer(), model_offer(free=2), model_offer(free=0, queue=4)]
    assert [busyness(load) for load in loads] == [0, 0.5, 2]
    assert busyness(model_offer(slots=0, free=0, queue=3)) == 3


def test_an_embedding_needs_room_for_its_longest_input_and_pays_for_all() -> None:
    need = needs(embedding("x" * 400, (1,) * 300, "y" * 40, max_cost_uc=5))
    assert (need.prompt, need.output) == (100 + 300 + 10, 0)
    assert need.least_context == need.full_context == 300
    assert need.body >= 400 + 300 + 40


def test_a_ranking_reads_its_question_with_each_document() -> None:
    need = needs(ranking("q" * 40, "x" * 400, "y" * 40))
    assert (need.output, need.least_context, need.full_context) == (0, 110, 110)
    assert need.prompt >= 110 + 20
    assert need.body >= 40 + 400 + 40


def test_a_bound_on_the_cost_is_tokens_that_it_surely_pays_for() -> None:
    prices = Prices(10, 2, 80, 2000)
    assert affordable(needs(prompt("x" * 400)), prices) is None
    for bound in (100, 4000, 10**6):
        need = needs(prompt("x" * 400, max_cost_uc=bound))
        tokens = affordable(need, prices)
        assert tokens is not None
        assert tokens == 1 or cost_uc(prices, prompt=need.prompt, output=tokens) <= bound
    assert affordable(needs(prompt("x", max_cost_uc=5)), Prices(0, 0, 0, 0)) is None
