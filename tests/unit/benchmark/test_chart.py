"""The picture is well-formed, whatever the figures are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.chart import LABELS, LEAST, MOST, PLOT, draw, position
from benchmark.figures import FIGURES, OURS, THEIRS, outcome

SVG = "{http://www.w3.org/2000/svg}"


def drawn(rounds: dict[str, dict[str, list[float]]]) -> ElementTree.Element:
    return ElementTree.fromstring(draw([outcome(figure, rounds) for figure in FIGURES], "a < b & c"))


def test_every_figure_has_its_row() -> None:
    texts = [element.text for element in drawn({}).iter(f"{SVG}text")]
    assert "a < b & c" in texts
    assert {figure.title for figure in FIGURES} <= set(texts)


def test_a_figure_with_a_gain_has_a_bar_and_says_what_came_of_it() -> None:
    picture = drawn({"tokens_per_s_1": {OURS: [50.0], THEIRS: [100.0]}})
    assert len(picture.findall(f"{SVG}rect")) == len(drawn({}).findall(f"{SVG}rect")) + 1
    assert any("missed" in (element.text or "") for element in picture.iter(f"{SVG}text"))


@given(st.floats(1e-6, 1e9))
def test_no_bar_leaves_the_plot(gain: float) -> None:
    assert LABELS <= position(gain) <= LABELS + PLOT


def test_the_scale_is_logarithmic() -> None:
    assert position(2) - position(1) == pytest.approx(position(16) - position(8))
    assert (position(LEAST), position(MOST)) == (LABELS, LABELS + PLOT)
