"""Breakers begin and end in the middle of tokens, and are worked out once."""

from __future__ import annotations

import numpy as np

from meshnode.engine.breakers import NO_BREAKERS, Vocabulary

PIECES = [b"a", b"b", b"\n", b".\n\n", b"xa", b"xab", b"abab", b"bx", b"", "。".encode(), b"\xe3", b"\x80\x82"]


class Counted:
    """A vocabulary of :data:`PIECES`, tokenising byte by byte, that counts what it is asked."""

    def __init__(self) -> None:
        self.pieces = 0
        self.texts: list[str] = []
        self.vocabulary = Vocabulary(len(PIECES), self._piece, self._tokenize)

    def _piece(self, token: int) -> bytes:
        self.pieces += 1
        return PIECES[token]

    def _tokenize(self, text: str) -> list[int]:
        self.texts.append(text)
        return list(text.encode())


def heads(text: str) -> dict[int, set[tuple[int, ...]]]:
    """Heads of one breaker, and their tails."""
    found = Counted().vocabulary.breakers((text,)).heads
    return {token: set(tails) for each in found for token, tails in each.items()}


def alone(*texts: str) -> list[int]:
    """Tokens that are breakers by themselves."""
    return [int(token) for token in Counted().vocabulary.breakers(texts).alone]


def test_every_token_that_holds_a_breaker_is_one() -> None:
    assert alone("\n") == [2, 3]
    assert alone("\n", "b", "\n\n") == [1, 2, 3, 5, 6, 7]
    assert heads("\n") == {}


def test_a_token_that_ends_with_a_breakers_beginning_is_its_head() -> None:
    assert alone("abx") == []
    assert heads("abx") == {0: {(98, 120)}, 4: {(98, 120)}, 5: {(120,)}, 6: {(120,)}}
    assert Counted().vocabulary.breakers(("abx", "b")).longest_tail == 2


def test_a_breaker_that_repeats_itself_has_several_tails() -> None:
    assert heads("ababc")[6] == {(99,), (97, 98, 99)}


def test_half_a_characters_token_is_a_head_too() -> None:
    assert alone("。") == [9]
    assert list(heads("。")) == [10]


def test_breakers_are_cut_where_llama_cpp_cuts_them() -> None:
    assert heads("a" + "z" * 80)[0] == {(122,) * 20}
    assert alone("xab" + "z" * 80) == []


def test_empty_breakers_are_none() -> None:
    assert Counted().vocabulary.breakers(("",)) is NO_BREAKERS
    assert Counted().vocabulary.breakers(()) is NO_BREAKERS


def test_whichever_bytes_a_piece_has_the_tokens_beside_it_are_told_apart() -> None:
    vocabulary = Vocabulary(4, [b"a", b"\xff", b"b", b""].__getitem__, lambda _: [9])
    found = vocabulary.breakers(("ab",))
    assert found.alone.tolist() == []
    assert found.heads == ({0: ((9,),)},)
    assert vocabulary.breakers(("b",)).alone.tolist() == [2]
    assert vocabulary.breakers(("b",)).are_alone(np.array([0, 2, 3])).tolist() == [False, True, False]
    assert NO_BREAKERS.are_alone(np.array([0, 2])).tolist() == [False, False]


def test_a_model_is_read_once_and_only_when_needed() -> None:
    counted = Counted()
    assert counted.pieces == 0
    counted.vocabulary.breakers(("ab", "\n"))
    asked = list(counted.texts)
    counted.vocabulary.breakers(("\n", "ab"))
    assert (counted.pieces, counted.texts) == (len(PIECES), asked)


def test_callers_cannot_make_it_remember_without_end() -> None:
    counted = Counted()
    for number in range(300):
        counted.vocabulary.breakers((f"a{number}",))
    assert len(counted.vocabulary._known) == 32
