"""Router modes: which model each would choose, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import Kind, ModelCard, ModelId, Preference, Privacy, Sort
from meshnode.engine.pipe import Gauge
from meshnode.engine.slot import ModelState
from meshnode.errors import ModelNotFound
from meshnode.mesh.estimate import needs
from meshnode.mesh.modes import (
    CAPABILITIES,
    MODES,
    MOST_RUNGS,
    Mode,
    Option,
    choose,
    is_near,
    mode_of,
    nothing,
    one_model,
    traits_here,
    traits_of,
    traits_there,
    wish_of,
)
from meshnode.mesh.route import Local
from meshnode.wire.fields import Prices
from tests.kit.askers import model_offer
from tests.kit.requests import card, prompt
from tests.unit.mesh.test_route import info, peer

NO_WISH = Preference()
NEED = needs(prompt("hello", tokens=100))


def here(name: str, state: str = "ready", *, default: bool = False, tps: float = 50.0, **fields: Any) -> Option:
    """A model of this node."""
    held: ModelCard = card(name, **fields)
    loaded = info(decode_tps=tps) if state == "ready" else None
    model = ModelState(id=held.id, state=state, reason="it is broken", gauge=Gauge(), info=loaded)
    return Option(held.id, Local(node="alice", card=held, state=model), (), default)


def chosen(mode: str, *options: Option, wish: Preference = NO_WISH) -> list[str]:
    """The models, best first."""
    return [one.model for one in choose(Mode(mode), NEED, wish, options)]


def peer_offer(name: str, **fields: Any) -> Option:
    """The same, the id of the offer being the model's."""
    return Option(ModelId(name), None, [peer(f"peer-of-{name}", model=model_offer(name, **fields))])


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("auto", Mode("auto")),
        (" Fast ", Mode("fast")),
        ("cheapest:embed", Mode("cheapest", "embed")),
        ("BEST:Tools", Mode("best", "tools")),
        ("faster", None),
        ("qwen3-8b:q4_k_m", None),
        ("", None),
    ],
)
def test_a_mode_is_known_by_its_name(name: str, mode: Mode | None) -> None:
    assert mode_of(name) == mode


@pytest.mark.parametrize("name", ["fast:", "auto:flying", "best:tools:vision"])
def test_a_capability_that_nobody_knows_is_no_model(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no such capability") as caught:
        mode_of(name)
    assert "vision" in caught.value.hint


@given(st.sampled_from(MODES), st.sampled_from(["", *CAPABILITIES]))
def test_every_mode_and_capability_is_read_back_from_its_name(name: str, capability: str) -> None:
    mode = Mode(name, capability)
    assert mode_of(str(mode)) == mode


@pytest.mark.parametrize(
    ("name", "model"),
    [("", None), ("Auto", None), ("fast:tools", None), ("fast:flying", "fast:flying"), ("m:q4_0", "m:q4_0")],
)
def test_a_mode_asks_for_no_model_by_name(name: str, model: str | None) -> None:
    assert one_model(name) == model


# --- traits ---------------------------------------------------------------------------------------


def test_a_model_must_have_what_the_request_and_the_mode_need() -> None:
    assert traits_of(NEED, Mode("auto")) == {"generate"}
    assert traits_of(NEED, Mode("auto", "vision")) == {"generate", "image"}
    assert traits_of(needs(prompt(top_logprobs=2)), Mode("fast", "json")) == {"generate", "logprobs", "schema"}


def test_what_a_model_has() -> None:
    assert traits_here(card("m")) >= {"generate", "embed", "text", "tools", "schema"}
    assert traits_here(card("e", kinds=(Kind.EMBED.value,))) == {"embed", "text"}
    assert traits_there(model_offer(features=("tools",), modalities=("text", "image"))) == {
        "generate", "text", "image", "tools",
    }  # fmt: skip


def test_where_nothing_fits_the_error_says_what_was_looked_for() -> None:
    error = nothing(Mode("fast", "vision"), {"image", "generate"})
    assert (error.status, error.param) == (422, "model")
    assert error.message == "model 'fast:vision': no model, here or offered by a peer, has generate, image."


# --- order ----------------------------------------------------------------------------------------


def test_auto_takes_what_is_loaded_here_then_the_default_then_the_quickest() -> None:
    quick, slow = peer_offer("quick", decode_tps=900.0), peer_offer("slow", decode_tps=1.0)
    default, other = here("d", default=True), here("o", tps=90.0)
    assert chosen("auto", quick, other, default) == ["d", "o", "quick"]
    assert chosen("auto", quick, here("d", "unloaded", default=True), other) == ["o", "d", "quick"]
    assert chosen("auto", slow, quick, here("x", "unloaded")) == ["quick", "x", "slow"]
    assert chosen("auto", quick, here("d", "failed", default=True)) == ["quick", "d"]


def test_fast_takes_the_least_time() -> None:
    assert chosen("fast", here("h", tps=20.0), peer_offer("q", decode_tps=900.0), peer_offer("s", decode_tps=2.0)) == [
        "q", "h", "s",
    ]  # fmt: skip


def test_cheapest_takes_this_node_first_then_the_lowest_price() -> None:
    dear, cheap = peer_offer("a", prices=Prices(1, 1, 900, 1)), peer_offer("b", prices=Prices(1, 1, 9, 1))
    assert chosen("cheapest", dear, cheap, here("h", "unloaded")) == ["h", "b", "a"]


def test_best_takes_the_most_bits_of_weights() -> None:
    big, small = peer_offer("big", parameters=8 * 10**9), peer_offer("small", parameters=10**9)
    eight = peer_offer("eight", parameters=8 * 10**9, quantisation="q8_0")
    assert chosen("best", small, big, eight) == ["eight", "big", "small"]
    assert chosen("best", big, here("h", parameters=7 * 10**9, quantisation="q8_0")) == ["h", "big"]


def test_what_cannot_be_had_now_comes_last_with_its_reason() -> None:
    for mode in MODES:
        made = choose(Mode(mode), NEED, Preference(), [here("broken", "failed"), peer_offer("slow", decode_tps=0.5)])
        assert [one.model for one in made] == ["slow", "broken"]
        assert (made[0].closed, made[1].closed) == ("", "it is broken")


def test_the_callers_wishes_hold_in_a_mode_too() -> None:
    wish = Preference(ignore=("local",))
    assert chosen("auto", here("h", default=True), peer_offer("p"), wish=wish) == ["p", "h"]
    assert wish_of(Mode("cheapest"), wish) == Preference(ignore=("local",), sort=Sort.PRICE)
    assert wish_of(Mode("fast"), Preference(sort=Sort.LATENCY)).sort is Sort.LATENCY
    assert wish_of(Mode("auto"), wish) == wish


def test_a_private_request_stays_here() -> None:
    private = needs(prompt(privacy=Privacy.CONFIDENTIAL))
    made = choose(Mode("fast"), private, Preference(), [peer_offer("p", decode_tps=900.0), here("h", "unloaded")])
    assert [(one.model, bool(one.closed)) for one in made] == [("h", False), ("p", True)]


def test_only_what_is_loaded_or_the_default_is_near() -> None:
    options = [here("d", "unloaded", default=True), here("x", "unloaded"), peer_offer("p")]
    assert [is_near(one) for one in choose(Mode("auto"), NEED, Preference(), options)] == [True, False, False]
    [broken] = choose(Mode("auto"), NEED, Preference(), [here("d", "failed", default=True)])
    assert not is_near(broken)


@given(st.sampled_from(MODES), st.lists(st.tuples(st.booleans(), st.floats(0.1, 900)), max_size=8))
def test_a_mode_chooses_a_few_of_what_there_is_and_open_ones_first(mode: str, some: list[tuple[bool, float]]) -> None:
    options = [
        here(f"m{at}", "failed" if shut else "ready", tps=tps) if at % 2 else peer_offer(f"m{at}", decode_tps=tps)
        for at, (shut, tps) in enumerate(some)
    ]
    made = choose(Mode(mode), NEED, Preference(), options)
    assert len(made) == min(MOST_RUNGS, len(options))
    assert {one.model for one in made} <= {option.model for option in options}
    assert [bool(one.closed) for one in made] == sorted(bool(one.closed) for one in made)
