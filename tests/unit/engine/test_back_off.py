"""The rule of waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.back_off import BackOff

CHANCES = st.floats(0, 1, exclude_max=True)


@given(st.lists(CHANCES, min_size=1, max_size=30))
def test_every_wait_is_between_base_and_cap(chances: list[float]) -> None:
    rule, wait = BackOff(0.2, 30.0), 0.0
    for chance in chances:
        wait = rule.after(wait, chance)
        assert 0.2 <= wait <= 30.0


def test_waits_grow_towards_the_cap() -> None:
    rule, waits = BackOff(1.0, 60.0), [0.0]
    for _ in range(8):
        waits.append(rule.after(waits[-1], 0.999))
    assert waits[1] == 1.0
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] > 50
