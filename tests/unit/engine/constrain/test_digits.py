"""Numbers that do not end are seen, wherever the text is cut; digits in strings are text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.constrain.digits import MOST, Digits
from tests.kit.constrained import begins, by_schema, fits


@given(st.text('0123"\\n ', max_size=30), st.integers(0, MOST + 3), st.integers(1, 9))
def test_only_digits_outside_strings_count_however_the_text_is_cut(text: str, digits: int, size: int) -> None:
    written = f"[{json.dumps(text)}, {'7' * digits}".encode()
    seen = Digits()
    for start in range(0, len(written), size):
        seen.feed(written[start : start + size])
    assert seen.enough == seen.copy().enough == (digits >= MOST)


def test_a_number_ends_before_it_bores() -> None:
    matcher = by_schema({"type": "object", "additionalProperties": {"type": ["number", "string"]}})
    assert fits(matcher, f'{{"a": 0.{"3" * MOST}}}')
    assert fits(matcher, f'{{"a": 0.{"3" * MOST}e-7}}')
    assert not begins(matcher, f'{{"a": 0.{"3" * (MOST + 1)}')
    assert fits(matcher, json.dumps({"1" * 50: "2" * 50}))
