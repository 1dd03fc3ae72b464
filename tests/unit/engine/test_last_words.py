"""What is kept of a worker's standard error."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.last_words import LINE_LENGTH, LINES, LastWords, telling


def words(text: bytes, *, guarded: bool = False) -> tuple[str, ...]:
    """What is kept of a whole output."""
    kept = LastWords()
    kept.guarded = guarded
    kept.feed(text)
    kept.close()
    return kept.lines


def test_the_last_lines_are_kept_and_no_more() -> None:
    said = b"".join(b"line %d\n" % number for number in range(200))
    assert words(said) == tuple(f"line {number}" for number in range(200 - LINES, 200))


def test_a_line_without_an_end_is_bounded_and_kept() -> None:
    kept = LastWords()
    for _ in range(1000):
        kept.feed(b"x" * 1000)
    kept.close()
    assert kept.lines == ("x" * LINE_LENGTH,)


def test_what_could_play_with_a_terminal_is_made_harmless() -> None:
    assert words(b"\x1b[2Jload\xff failed\x07\n") == (" [2Jload\ufffd failed",)


def test_once_a_request_was_seen_only_lines_of_known_shape_are_kept() -> None:
    said = b"ValueError: dear diary\nllama.cpp/ggml.c:12: GGML_ASSERT(x) failed\n  dear\nterminate called after\n"
    assert words(said, guarded=True) == ("llama.cpp/ggml.c:12: GGML_ASSERT(x) failed", "terminate called after")
    assert len(words(said)) == 4


def test_where_the_library_was_built_is_not_told() -> None:
    said = b"/home/alice/build/llama.cpp/src/llama-vocab.cpp:2544: GGML_ASSERT(x) failed\n"
    for guarded in (False, True):
        assert words(said, guarded=guarded) == ("llama-vocab.cpp:2544: GGML_ASSERT(x) failed",)


def test_the_fault_handlers_stack_is_not_told_in_a_message() -> None:
    lines = ["GGML_ASSERT(x) failed", "Fatal Python error: Aborted", "Current thread 0x0 (most recent call first):"]
    lines += ['  File "worker.py", line 1 in main', "Extension modules: numpy (total: 1)"]
    assert telling(lines) == "GGML_ASSERT(x) failed | Fatal Python error: Aborted"
    assert telling([]) == ""


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=5))
def test_it_does_not_matter_how_the_output_is_cut_into_reads(data: bytes, cuts: list[int]) -> None:
    kept = LastWords()
    places = [0, *sorted(cuts), len(data)]
    for begin, end in pairwise(places):
        kept.feed(data[begin:end])
    kept.close()
    assert all(len(line) <= LINE_LENGTH for line in kept.lines)
    if all(len(line) <= LINE_LENGTH for line in data.split(b"\n")):
        assert kept.lines == words(data)
