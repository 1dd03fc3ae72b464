"""One of several constraints, whichever the text agrees with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.constrain.either import Either, Mask
from meshnode.errors import InvalidField

END = 9
Words = tuple[tuple[int, ...], ...]


class OneOf:
    """Holds a text to one of some words of tokens, then END."""

    def __init__(self, words: Words, at: int = 0) -> None:
        self._words, self._at = words, at

    def mask(self) -> Mask:
        """Overwritten by the next call, as the library's is."""
        found = np.zeros(10, dtype=np.bool_)
        for word in self._words:
            found[word[self._at] if self._at < len(word) else END] = True
        return found

    def accept(self, token: int) -> None:
        """The words that have this token here stay."""
        if not self.mask()[token]:
            raise InvalidField(f"{token} does not go on")
        self._words = tuple(word for word in self._words if (*word, END)[self._at : self._at + 1] == (token,))
        self._at += 1

    def fork(self) -> OneOf:
        """The same."""
        return OneOf(self._words, self._at)

    @property
    def ended(self) -> bool:
        """Whether every word left is over."""
        return all(self._at >= len(word) for word in self._words)


def allowed(held: Either) -> set[int]:
    """The tokens that may come."""
    return {int(token) for token in np.flatnonzero(held.mask())}


def test_both_hold_until_the_text_has_chosen() -> None:
    held = Either([OneOf(((1, 2, 3),)), OneOf(((1, 4), (5,)))])
    assert allowed(held) == {1, 5}
    held.accept(1)
    assert allowed(held) == {2, 4}
    held.accept(4)
    assert allowed(held) == {END}
    assert held.ended


def test_one_that_is_complete_may_end_while_the_other_goes_on() -> None:
    held = Either([OneOf(((1,),)), OneOf(((1, 2),))])
    held.accept(1)
    other = held.fork()
    other.accept(2)
    assert [one.ended for one in (held, other)] == [False, True]
    assert allowed(held) == {2, END}


def test_a_token_that_none_has_is_refused() -> None:
    held = Either([OneOf(((1,),)), OneOf(((2,),))])
    with pytest.raises(InvalidField):
        held.accept(3)


WORD = st.lists(st.integers(0, 3), max_size=4).map(tuple)
SOME: st.SearchStrategy[Words] = st.lists(WORD, min_size=1, max_size=4).map(tuple)


@given(SOME, SOME, st.data(), st.booleans())
def test_it_is_what_one_constraint_of_all_would_be(one: Words, other: Words, data: st.DataObject, look: bool) -> None:
    pair, joined = Either([OneOf(one), OneOf(other)]), OneOf((*one, *other))
    while not joined.ended:
        assert pair.ended is False
        expected = {int(token) for token in np.flatnonzero(joined.mask())}
        if look:
            assert allowed(pair) == expected
        token = data.draw(st.sampled_from(sorted(expected)))
        if token == END:
            return
        pair.accept(token)
        joined.accept(token)
    assert pair.ended
