"""How fast a model will be, by what was measured before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ModelId
from meshnode.models.speed import KEPT, Load, Speeds
from tests.kit.requests import card


def load(model: str, active: int, tps: float, *, on_gpu: bool = False) -> Load:
    """One load."""
    return Load(model=ModelId(model), active_bytes=active, decode_tps=tps, on_gpu=on_gpu)


def test_a_machine_that_loaded_nothing_knows_nothing_and_says_so() -> None:
    pace = Speeds().of(card("a"), on_gpu=False)
    assert (pace.decode_tps, pace.source) == (0.0, "unknown")
    assert "unknown" in pace.sentence


def test_a_models_own_last_figure_counts() -> None:
    pace = Speeds([load("a", 100, 20.0), load("b", 100, 99.0), load("a", 100, 25.0)]).of(card("a"), on_gpu=False)
    assert (pace.decode_tps, pace.source) == (25.0, "measured")


def test_others_are_reckoned_by_the_weights_they_read() -> None:
    speeds = Speeds([load("a", 100, 30.0), load("b", 300, 10.0), load("c", 1000, 2.9)])
    pace = speeds.of(card("new", active_bytes=600), on_gpu=False)
    assert pace.decode_tps == pytest.approx(5.0)
    assert pace.source == "estimated"
    assert "3 models" in pace.sentence


def test_a_file_that_does_not_say_what_it_reads_is_reckoned_whole() -> None:
    assert Speeds([load("a", 100, 30.0)]).of(card("new", size=1000), on_gpu=False).decode_tps == pytest.approx(3.0)


def test_what_was_measured_on_a_gpu_says_nothing_of_the_cpu() -> None:
    speeds = Speeds([load("a", 100, 500.0, on_gpu=True)])
    assert speeds.of(card("a"), on_gpu=False).source == "unknown"
    assert speeds.of(card("a"), on_gpu=True).source == "measured"


def test_a_load_without_a_measurement_is_forgotten() -> None:
    assert Speeds([load("a", 100, 0.0)]).of(card("a"), on_gpu=False).source == "unknown"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12), st.floats(0, 1e4)), max_size=3 * KEPT))
def test_whatever_was_measured_the_figure_is_sound(loads: list[tuple[str, int, float]]) -> None:
    pace = Speeds(load(*one) for one in loads).of(card("x", active_bytes=10**9), on_gpu=False)
    assert pace.decode_tps >= 0
    assert (pace.decode_tps > 0) == (pace.source != "unknown") or pace.decode_tps < 1e-6
