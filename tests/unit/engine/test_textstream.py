"""What a reader of an answer sees: whole characters, as early as possible, and never a stop string."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.engine.textstream import Chunk, TextStream

small_text = st.text(alphabet="abé€😀", max_size=24)
stops = st.lists(st.text(alphabet="abé€", min_size=1, max_size=5), max_size=3).map(tuple)
mostly_broken_bytes = st.lists(
    st.one_of(
        st.binary(max_size=3),
        st.sampled_from(["é", "€", "😀", "a", "b"]).map(str.encode),
        st.sampled_from([b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90", b"\xff", b"\x80"]),
    ),
    max_size=8,
).map(b"".join)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """``data`` cut at the given places (modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def run(stop: tuple[str, ...], parts: Sequence[bytes]) -> Chunk:
    """The whole text and the stop that the parts give."""
    stream = TextStream(stop)
    chunks = [stream.feed(part) for part in parts]
    chunks.append(stream.finish())
    return Chunk("".join(chunk.text for chunk in chunks), chunks[-1].stop)


def reference(stop: tuple[str, ...], text: str) -> Chunk:
    """The obvious way: try every end, shortest first."""
    for end in range(len(text) + 1):
        for word in sorted(stop, key=len, reverse=True):
            if word and text[:end].endswith(word):
                return Chunk(text[: end - len(word)], word)
    return Chunk(text, None)


def test_a_character_cut_in_two_leaves_whole() -> None:
    stream = TextStream()
    assert stream.feed(b"caf\xc3") == Chunk("caf", None)
    assert stream.feed(b"\xa9!") == Chunk("é!", None)
    assert stream.finish() == Chunk("", None)


def test_half_a_character_at_the_end_is_shown_as_broken() -> None:
    stream = TextStream()
    assert stream.feed("😀".encode()[:3]) == Chunk("", None)
    assert stream.finish() == Chunk("\ufffd", None)


def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    stream = TextStream(("\nUser:",))
    assert stream.feed(b"Hello") == Chunk("Hello", None)
    assert stream.feed(b".\nUs") == Chunk(".", None)
    assert stream.feed(b"er: more") == Chunk("", "\nUser:")
    assert stream.feed(b"never seen") == Chunk("", "\nUser:")
    assert stream.finish() == Chunk("", "\nUser:")


def test_a_false_beginning_is_given_out_at_once() -> None:
    stream = TextStream(("\nUser:",))
    assert stream.feed(b"a\nUs") == Chunk("a", None)
    assert stream.feed(b"ually") == Chunk("\nUsually", None)


def test_held_text_comes_out_at_the_end() -> None:
    stream = TextStream(("###",))
    assert stream.feed(b"title ##") == Chunk("title ", None)
    assert stream.finish() == Chunk("##", None)
    assert stream.finish() == Chunk("", None)


def test_the_stop_that_is_complete_first_wins_and_then_the_longest() -> None:
    assert run(("bcd", "abcde"), [b"xabcde"]) == Chunk("xa", "bcd")
    assert run(("cd", "bcd"), [b"xabcde"]) == Chunk("xa", "bcd")


def test_an_empty_stop_string_stops_nothing() -> None:
    assert run(("",), [b"abc"]) == Chunk("abc", None)


def test_a_stop_string_may_complete_in_the_last_flush() -> None:
    assert run(("x\ufffd",), [b"ax\xe2"]) == Chunk("a", "x\ufffd")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_long_periodic_stop_string_is_followed_in_linear_work(size: int) -> None:
    word = "ab" * 2000 + "c"
    text = ("ab" * 3000 + "c").encode()
    parts = [text[index : index + size] for index in range(0, len(text), size)]
    assert run((word,), parts) == Chunk("ab" * 1000, word)


@settings(deadline=None)
@given(stops, small_text, st.lists(st.integers(0, 200), max_size=12))
def test_any_cut_gives_what_the_obvious_search_gives(stop: tuple[str, ...], text: str, cuts: list[int]) -> None:
    found = run(stop, pieces(text.encode(), cuts))
    assert found == reference(stop, text)
    assert not any(word in found.text for word in stop)


@settings(deadline=None)
@given(mostly_broken_bytes, stops, st.lists(st.integers(0, 200), max_size=12))
def test_broken_bytes_read_the_same_however_they_are_cut(data: bytes, stop: tuple[str, ...], cuts: list[int]) -> None:
    assert run(stop, pieces(data, cuts)) == reference(stop, data.decode("utf-8", errors="replace"))


@settings(deadline=None)
@given(stops, small_text)
def test_nothing_is_held_that_could_not_begin_a_stop_string(stop: tuple[str, ...], text: str) -> None:
    stream, out = TextStream(stop), ""
    for seen, character in enumerate(text, start=1):
        chunk = stream.feed(character.encode())
        if chunk.stop is not None:
            return
        out += chunk.text
        held = text[len(out) : seen]
        prefixes = {word[:length] for word in stop for length in range(len(word))}
        assert text[:seen].startswith(out)
        assert held == max((p for p in prefixes if text[:seen].endswith(p)), key=len, default="")
