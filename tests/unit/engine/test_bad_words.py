"""No word comes whole, and what only begins like one is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.bad_words import BadWords, token_words

words = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4).map(tuple)


def tokenize(text: str) -> list[int]:
    """A token for each byte."""
    return list(text.encode())


def test_a_word_is_banned_alone_and_after_a_space() -> None:
    assert token_words(("no",), tokenize) == (tuple(b"no"), tuple(b" no"))
    assert token_words((" no", "no"), tokenize) == (tuple(b"no"), tuple(b" no"))


def test_words_without_text_ban_nothing() -> None:
    assert token_words(("", "  "), tokenize) == ()


def test_a_word_is_stopped_at_its_last_token_only() -> None:
    found = BadWords(((1, 2, 3), (9,)), [0])
    assert set(found.banned()) == {9}
    found.accept(1)
    assert set(found.banned()) == {9}
    found.accept(2)
    assert set(found.banned()) == {9, 3}
    found.accept(5)
    assert set(found.banned()) == {9}


@given(words, st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12))
def test_what_is_banned_is_what_would_complete_a_word(
    bad: tuple[tuple[int, ...], ...], history: list[int], begun: int
) -> None:
    found = BadWords(bad, history[:begun])
    for token in history[begun:]:
        found.accept(token)
    completing = {token for token in range(4) if any((*history, token)[-len(word) :] == word for word in bad)}
    assert set(found.banned()) == completing


def test_an_empty_word_bans_nothing() -> None:
    assert list(BadWords(((),), [1]).banned()) == []
