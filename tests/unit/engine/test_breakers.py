"""Breakers begin and end in the middle of tokens, and are worked out once."""

from __future__ import annotations

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


def test_every_token_that_holds_a_breaker_is_one() -> None:
    assert Counted().vocabulary.breakers(("\n",)) == ({2: ((),), 3: ((),)}, 0)


def test_a_token_that_ends_with_a_breakers_beginning_is_its_head() -> None:
    found = Counted().vocabulary.breakers(("abx",))
    assert found.heads == {0: ((98, 120),), 4: ((98, 120),), 5: ((120,),), 6: ((120,),)}
    assert found.longest_tail == 2


def test_a_breaker_that_repeats_itself_has_several_tails() -> None:
    assert set(Counted().vocabulary.breakers(("ababc",)).heads[6]) == {(99,), (97, 98, 99)}


def test_half_a_characters_token_is_a_head_too() -> None:
    found = Counted().vocabulary.breakers(("。",))
    assert found.heads[9] == ((),)
    assert 10 in found.heads


def test_breakers_are_cut_where_llama_cpp_cuts_them() -> None:
    found = Counted().vocabulary.breakers(("a" + "z" * 80,))
    assert {len(tail) for tails in found.heads.values() for tail in tails} == {20}
    assert Counted().vocabulary.breakers(("\n" + "z" * 80,)).heads[2] == ((122,) * 20,)


def test_empty_breakers_are_none() -> None:
    assert Counted().vocabulary.breakers(("",)) == NO_BREAKERS
    assert Counted().vocabulary.breakers(()) == NO_BREAKERS


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
    assert len(counted.vocabulary._known) == 64
