"""What is known of a pull while it runs."""

from __future__ import annotations

import pytest

from meshnode.models.arriving import Arrivals
from meshnode.models.catalogue import DEFAULT
from meshnode.models.pull import PullProgress
from meshnode.models.sources import parse_source


async def ignored(_: PullProgress) -> None:
    """Nobody else listens."""


async def test_those_who_wait_see_how_far_it_is_and_its_end() -> None:
    arrivals = Arrivals()
    with arrivals.under_way(DEFAULT, "default") as arrival:
        told = arrival.telling(ignored)
        assert (arrival.phase, arrival.fraction) == ("fetch", 0.0)
        for progress, fraction in [
            (PullProgress(phase="fetch", done=37, total=100), 0.37),
            (PullProgress(phase="fetch", done=37), 0.0),
            (PullProgress(phase="fetch", done=200, total=100), 1.0),
            (PullProgress(phase="unpack", done=1, total=100), 1.0),
        ]:
            changed = arrival.changed
            await told(progress)
            assert changed.is_set()
            assert arrival.fraction == fraction
        changed = arrival.changed
        assert [one.source for one in arrivals] == ["default"]
    assert changed.is_set()
    assert arrival.over
    assert list(arrivals) == []


@pytest.mark.parametrize("name", [None, DEFAULT.id, DEFAULT.id.rpartition(":")[0].upper()])
def test_the_default_is_known_by_its_names_before_it_is_here(name: str | None) -> None:
    arrivals = Arrivals()
    assert arrivals.of(name) is None
    with arrivals.under_way(DEFAULT, "default") as arrival:
        assert arrivals.of(name) is arrival
        assert arrivals.of("another") is None


def test_what_another_source_will_be_called_is_not_known_before() -> None:
    arrivals = Arrivals()
    with arrivals.under_way(parse_source("https://models.example/qwen3-8b.gguf"), "qwen") as arrival:
        assert arrivals.of("qwen3-8b") is None
        assert arrivals.of(None) is arrival
    assert arrivals.of(None) is None


def test_a_pull_that_fails_is_over_too() -> None:
    arrivals = Arrivals()
    with pytest.raises(ValueError, match="broke"), arrivals.under_way(DEFAULT, "default") as arrival:
        raise ValueError("it broke")
    assert arrival.over
