"""In which pieces a text is streamed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.responses.pace import Pace

texts = st.text(alphabet="ab \n\t字", max_size=120)


def told(pieces: list[str], *, steady: bool) -> list[str]:
    pace = Pace(steady=steady)
    return [word for piece in pieces for word in pace.feed(piece)] + pace.flush()


def test_a_text_that_need_not_be_told_again_comes_as_it_is() -> None:
    assert told(["Hel", "", "lo world"], steady=False) == ["Hel", "lo world"]


def test_a_steady_text_comes_word_by_word_and_the_last_one_at_the_end() -> None:
    pace = Pace(steady=True)
    assert pace.feed("Hel") == []
    assert pace.feed("lo wor") == ["Hello"]
    assert pace.feed("ld  ") == [" world"]
    assert pace.flush() == ["  "]


@given(texts, st.lists(st.integers(0, 120), max_size=8))
def test_a_steady_text_falls_into_the_same_pieces_however_it_came(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[one:two] for one, two in pairwise(places)]
    whole = told([text], steady=True)
    assert told(pieces, steady=True) == whole == told(list(text), steady=True)
    assert "".join(whole) == text
    assert all(len(word) <= 48 for word in whole)
