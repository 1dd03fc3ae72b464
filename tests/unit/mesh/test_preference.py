"""A caller's wishes: whom each of them rules out, and in which order it puts the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ModelId, Preference, Sort
from meshnode.errors import CapabilityUnavailable
from meshnode.mesh.preference import FREE, arranged, unwanted
from meshnode.mesh.route import Candidate, plan, refusal
from meshnode.wire.fields import Prices
from tests.kit.requests import prompt
from tests.unit.mesh.test_route import CARD, first, info, local, order, peer

BOB, CAROL = "12D3KooWbobbob", "12D3KooWcarol1"
PRICES = Prices(15, 2, 125, 2000)


def said(wish: Preference, node: str = BOB, *, here: bool = False, quantisation: str = "q4_k_m") -> str:
    """Why a provider is not wanted."""
    prices = FREE if here else PRICES
    return unwanted(wish, local=here, node=node, quantisation=quantisation, prices=prices)


@pytest.mark.parametrize(
    ("wish", "ruled_out"),
    [
        (Preference(), ""),
        (Preference(only=(BOB,)), ""),
        (Preference(only=(BOB[:12],)), ""),
        (Preference(only=("local",)), "provider.only"),
        (Preference(only=(CAROL,)), "provider.only"),
        (Preference(ignore=(BOB,)), "provider.ignore"),
        (Preference(ignore=("local", CAROL)), ""),
        (Preference(order=(CAROL,)), ""),
        (Preference(order=(CAROL,), fallbacks=False), "provider.order"),
        (Preference(here_only=True), "stay on this node"),
        (Preference(quantisations=("q8_0",)), "provider.quantizations"),
        (Preference(quantisations=("q8_0", "Q4_K_M")), ""),
        (Preference(quantisations=("q4_k",)), ""),
        (Preference(quantisations=("int4",)), ""),
        (Preference(quantisations=("int8", "fp16")), "provider.quantizations"),
        (Preference(most_prompt_uc=15), ""),
        (Preference(most_prompt_uc=14.9), "max_price.prompt"),
        (Preference(most_output_uc=100), "max_price.completion"),
        (Preference(most_request_uc=1999), "max_price.request"),
    ],
)
def test_each_wish_rules_out_whom_it_names(wish: Preference, ruled_out: str) -> None:
    assert (ruled_out in said(wish)) if ruled_out else said(wish) == ""


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        (Preference(only=("local",)), True),
        (Preference(only=("alice",)), True),
        (Preference(only=(BOB,)), False),
        (Preference(ignore=("local",)), False),
        (Preference(here_only=True), True),
        (Preference(most_output_uc=0, most_prompt_uc=0, most_request_uc=0), True),
    ],
)
def test_this_node_is_local_and_free(wish: Preference, wanted: bool) -> None:
    assert (said(wish, "alice", here=True) == "") is wanted


def one(node: str, kind: str = "peer", **figures: Any) -> Candidate:
    """A candidate."""
    return Candidate(kind=kind, node=node, model=ModelId("m"), reason="", **figures)


HERE = one("alice", "local", expected_ms=900.0, first_ms=300.0, rate=20.0, cost_uc=0)
QUICK = one(BOB, expected_ms=400.0, first_ms=200.0, rate=90.0, cost_uc=9000)
EAGER = one(CAROL, expected_ms=700.0, first_ms=50.0, rate=30.0, cost_uc=3000)


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Preference(), [HERE, QUICK, EAGER]),
        (Preference(sort=Sort.PRICE), [HERE, EAGER, QUICK]),
        (Preference(sort=Sort.THROUGHPUT), [QUICK, EAGER, HERE]),
        (Preference(sort=Sort.LATENCY), [EAGER, QUICK, HERE]),
        (Preference(sort=Sort.TIME), [QUICK, EAGER, HERE]),
        (Preference(order=(CAROL, "local")), [EAGER, HERE, QUICK]),
        (Preference(order=(CAROL,), sort=Sort.TIME), [EAGER, QUICK, HERE]),
        (Preference(fallbacks=False), [HERE]),
        (Preference(fallbacks=False, sort=Sort.LATENCY), [EAGER]),
    ],
)
def test_the_wishes_order(wish: Preference, expected: list[Candidate]) -> None:
    assert arranged(wish, [HERE, QUICK, EAGER]) == expected


def test_nearly_equal_ones_stay_as_they_were_drawn() -> None:
    drawn = [
        one("b", expected_ms=401.0, first_ms=201.0, rate=29.0, cost_uc=5),
        one("a", expected_ms=400.0, first_ms=200.0, rate=30.0, cost_uc=5),
    ]
    for sort in Sort:
        assert arranged(Preference(sort=sort), drawn) == drawn


@given(
    st.lists(st.builds(one, st.text(max_size=3), cost_uc=st.integers(0, 9), rate=st.floats(0, 9)), max_size=8),
    st.sampled_from([None, *Sort]),
    st.lists(st.text(min_size=1, max_size=3), max_size=3),
)
def test_ordering_loses_nobody_and_makes_nobody_up(some: list[Candidate], sort: Sort | None, names: list[str]) -> None:
    made = arranged(Preference(sort=sort, order=tuple(names)), some)
    assert sorted(map(id, made)) == sorted(map(id, some))


def test_a_plan_keeps_to_the_wishes_and_says_whom_they_rule_out() -> None:
    quick, slow = peer(BOB, decode_tps=500.0), peer(CAROL, decode_tps=5.0)
    here = local(info=info())
    wish = Preference(order=(CAROL,))
    assert order(plan(prompt(tokens=100, provider=wish), here, [quick, slow], draw=first)) == [CAROL, "alice", BOB]
    made = plan(prompt(tokens=100, provider=Preference(ignore=("local", BOB))), here, [quick, slow], draw=first)
    assert order(made) == [CAROL]
    assert [(rejection.node, rejection.gate) for rejection in made.rejections] == [
        ("alice", "provider"),
        (BOB, "provider"),
    ]


def test_whom_nobody_satisfies_is_told_which_wishes_ruled_out_whom() -> None:
    asked = prompt(provider=Preference(only=("12D3KooWnobody",)))
    for peers in ([], [peer(BOB)]):
        made = plan(asked, local(), peers, draw=first)
        error = refusal(asked, CARD.id, made.rejections)
        assert isinstance(error, CapabilityUnavailable)
        assert error.param == "provider"
        assert "this node: is not in provider.only" in error.message
