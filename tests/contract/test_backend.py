"""One suite for every backend: the fake, llama.cpp on a tiny random model, llama.cpp on SmolLM2.

What is asserted here is what the loop relies on: the cache does what it is told, whoever computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from meshnode.domain import FinishReason, Sampling, Stopping
from meshnode.engine.backend import Aborted, Backend, Logits, NoSpace, Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from tests.kit.driven import Driven, asking
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import write_tiny_gguf

CELLS, SLOTS = 256, 4


def load(path: Path) -> Load:
    """How the tests load a model: small, and on one thread."""
    return Load(path=str(path), n_ctx=CELLS, n_seq_max=SLOTS, n_batch=128, n_ubatch=64, threads=1, gpu_layers=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """llama.cpp with a random model."""
    backend = open_llama(load(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Backend]:
    """llama.cpp with SmolLM2."""
    backend = open_llama(load(smollm2_path()))
    yield backend
    backend.close()


@pytest.fixture(params=["fake", "tiny", pytest.param("smollm2", marks=pytest.mark.model)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend, with an empty cache."""
    if request.param == "fake":
        yield FakeBackend(CELLS, SLOTS, n_batch=128)
        return
    found: Backend = request.getfixturevalue(request.param)
    yield found
    found.set_abort(None)
    for seq in range(found.ids):
        found.remove(seq)


def rows(seq: int, tokens: list[int], start: int = 0) -> list[Row]:
    """Tokens of one sequence; the last gives logits."""
    return [Row(seq, token, start + n, n == len(tokens) - 1) for n, token in enumerate(tokens)]


def output(backend: Backend, seq: int, tokens: list[int], start: int = 0) -> Logits:
    """Compute, and a copy of the logits after the last token."""
    backend.decode(rows(seq, tokens, start))
    return backend.logits(len(tokens) - 1).copy()


def prompt(backend: Backend, text: str = "The quick brown fox jumps over") -> list[int]:
    """Tokens of a text."""
    return backend.tokenize(text, add_special=True, parse_special=False)


def same(one: Logits, other: Logits) -> bool:
    """The same up to what the order of floating-point additions changes; a mistaken cache changes far more."""
    return float(np.abs(one - other).max()) < 0.02 * float(np.abs(one).max())


NEAR_TIE = 0.75
"""Logits closer than this may change places: llama.cpp adds up attention in half precision and in the order of the
cells, and which cells are free depends on the company."""


# --- tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["plain", "zwei Wörter", "日本語 😀", "tabs\tand\n\nlines", "nul\0 inside", ""])
def test_pieces_of_a_text_are_its_bytes(backend: Backend, text: str) -> None:
    tokens = backend.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(backend.piece(token) for token in tokens) == text.encode()


def test_lone_surrogates_do_no_harm(backend: Backend) -> None:
    assert backend.tokenize("a\ud800b", add_special=False, parse_special=False)


def test_end_token_is_control_and_has_no_text(backend: Backend) -> None:
    (eos,) = backend.tokenize(backend.eos_text, add_special=False, parse_special=True)
    assert backend.ends_generation(eos)
    assert backend.piece(eos) == b""
    assert backend.piece(eos, special=True).decode() == backend.eos_text
    assert len(backend.tokenize(backend.eos_text, add_special=False, parse_special=False)) > 1


def test_ordinary_tokens_do_not_end_anything(backend: Backend) -> None:
    assert not any(backend.ends_generation(token) for token in prompt(backend)[1:])


def test_the_number_of_threads_changes_no_answer(backend: Backend) -> None:
    tokens = prompt(backend)
    before = output(backend, 0, tokens)
    backend.set_threads(2, 2)
    backend.remove(0)
    after = output(backend, 0, tokens)
    backend.set_threads(1, 1)
    assert same(before, after)


# --- the cache --------------------------------------------------------------------------------


def test_shape_of_the_output(backend: Backend) -> None:
    logits = output(backend, 0, prompt(backend))
    assert logits.shape == (backend.info.n_vocab,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_chunks_compute_the_same_as_the_whole(backend: Backend) -> None:
    tokens = prompt(backend)
    whole = output(backend, 0, tokens)
    output(backend, 1, tokens[:3])
    assert same(whole, output(backend, 1, tokens[3:], start=3))


def test_sequences_do_not_see_each_other(backend: Backend) -> None:
    tokens, other = prompt(backend), prompt(backend, "Something entirely different, and longer than that")
    alone = output(backend, 0, tokens)
    output(backend, 1, other)
    backend.remove(0)
    batch = [*rows(1, [other[0]], len(other)), *rows(0, tokens)]
    backend.decode(batch)
    assert same(alone, backend.logits(len(batch) - 1))


def test_every_token_matters(backend: Backend) -> None:
    tokens = prompt(backend)
    alone = output(backend, 0, tokens)
    changed = [tokens[0], tokens[2], tokens[1], *tokens[3:]]
    assert not np.array_equal(alone, output(backend, 1, changed))


def test_a_tail_can_be_cut_and_computed_again(backend: Backend) -> None:
    tokens = prompt(backend)
    whole = output(backend, 0, tokens)
    assert backend.remove(0, 3)
    assert same(whole, output(backend, 0, tokens[3:], start=3))


def test_a_copy_goes_on_alone(backend: Backend) -> None:
    tokens = prompt(backend)
    output(backend, 0, tokens[:-1])
    backend.copy(0, 1)
    whole = output(backend, 0, tokens[-1:], start=len(tokens) - 1)
    assert backend.remove(0)
    assert same(whole, output(backend, 1, tokens[-1:], start=len(tokens) - 1))


def test_a_part_is_shared(backend: Backend) -> None:
    tokens, spare = prompt(backend), backend.ids - 1
    whole = output(backend, 0, tokens)
    backend.copy(0, spare, 0, 3)
    assert same(whole, output(backend, spare, tokens[3:], start=3))


def test_a_part_in_the_middle_is_changed_for_anothers(backend: Backend) -> None:
    *head, last = prompt(backend)
    for seq in (0, 1):
        output(backend, seq, head)
    untouched = output(backend, 1, [last], start=len(head))
    assert backend.remove(1, 2, 5)
    assert backend.remove(1, len(head))
    backend.copy(0, 1, 2, 5)
    assert backend.remove(0)
    moved = output(backend, 1, [last], start=len(head))
    assert np.argmax(untouched) == np.argmax(moved)
    assert float(np.abs(untouched - moved).max()) < 2 * NEAR_TIE, "other cells in another order: other rounding"


def test_shared_cells_cost_no_room(backend: Backend) -> None:
    token = prompt(backend)[-1]
    for start in range(0, backend.info.n_ctx, 128):
        backend.decode(rows(0, [token] * 128, start))
    for other in range(1, backend.ids):
        backend.copy(0, other)
    assert backend.remove(0, 128)
    with pytest.raises(NoSpace):
        backend.decode(rows(0, [token], 128))
    for other in range(1, backend.ids):
        backend.remove(other)
    backend.decode(rows(0, [token] * 128, 128))


def test_full_cache_computes_nothing_and_can_be_used_on(backend: Backend) -> None:
    token = prompt(backend)[-1]
    for start in range(0, backend.info.n_ctx, 128):
        backend.decode(rows(0, [token] * 128, start))
    with pytest.raises(NoSpace):
        backend.decode(rows(1, [token] * 8))
    backend.remove(0)
    fresh = output(backend, 1, prompt(backend))
    backend.remove(1)
    assert same(fresh, output(backend, 0, prompt(backend)))


def test_aborted_batch_can_be_cut_back_and_computed_again(backend: Backend) -> None:
    tokens = (prompt(backend) * 40)[:128]
    whole = output(backend, 0, tokens)
    backend.remove(0)
    calls = itertools.count()
    backend.set_abort(lambda: next(calls) >= 1)
    with pytest.raises(Aborted):
        backend.decode(rows(0, tokens))
    backend.set_abort(None)
    assert backend.remove(0, 0)
    assert same(whole, output(backend, 0, tokens))


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [Row(0, 1, place, False) for place in range(129)],
        [Row(0, -1, 0, True)],
        [Row(0, 10**9, 0, True)],
        [Row(256, 1, 0, True)],
        [Row(-1, 1, 0, True)],
    ],
    ids=["empty", "too long", "negative token", "unknown token", "unknown sequence", "negative sequence"],
)
def test_a_batch_that_cannot_be_is_refused(backend: Backend, batch: list[Row]) -> None:
    with pytest.raises(ValueError):
        backend.decode(batch)
    output(backend, 0, prompt(backend))


def test_output_that_was_not_asked_for_is_not_there(backend: Backend) -> None:
    backend.decode(rows(0, prompt(backend)))
    with pytest.raises(LookupError):
        backend.logits(0)


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    for backend in (FakeBackend(), open_llama(load(write_tiny_gguf(tmp_path / "tiny.gguf")))):
        backend.close()
        backend.close()


# --- under the loop ---------------------------------------------------------------------------

PROMPTS = ("Once upon a time", "The capital of France is", "1 2 3 4 5", "def main():", "Dear Sir or Madam,", "Why")
TOGETHER = Stopping(max_tokens=16)


def margins(backend: Backend, text: str, said: list[int]) -> list[float]:
    """For each token of an answer: how far the best logit was ahead of the second."""
    tokens, gaps = prompt(backend, text), []
    backend.remove(0)
    for start, end in itertools.pairwise([0, *range(len(tokens), len(tokens) + len(said) + 1)]):
        best = np.sort(output(backend, 0, [*tokens, *said][start:end], start))[-2:]
        gaps.append(float(best[1] - best[0]))
    backend.remove(0)
    return gaps


def agree(backend: Backend, text: str, one: list[int], other: list[int]) -> bool:
    """The same tokens, up to the first place where the best two were nearly equal: there, rounding decides."""
    gaps = margins(backend, text, one)
    for place, (left, right) in enumerate(itertools.zip_longest(one, other)):
        if left != right:
            return gaps[place] < NEAR_TIE
    return True


def test_greedy_answers_do_not_depend_on_the_company(backend: Backend) -> None:
    solo = []
    for text in PROMPTS:
        driven = Driven(backend, step_tokens=64)
        solo.append(driven.tokens(ask(driven, text)))
    together = Driven(backend, step_tokens=9)
    numbers = [together.submit(asking(text, stopping=TOGETHER)) for text in PROMPTS]
    together.run()
    for text, number, tokens in zip(PROMPTS, numbers, solo, strict=True):
        if isinstance(backend, FakeBackend):
            assert together.tokens(number) == tokens
        assert agree(backend, text, tokens, together.tokens(number)), text


def ask(driven: Driven, text: str) -> int:
    number = driven.submit(asking(text, stopping=TOGETHER))
    driven.run()
    return number


def test_seed_repeats_and_seeds_differ(backend: Backend) -> None:
    def answer(seed: int) -> str:
        return Driven(backend).ask(asking("Once upon a time", sampling=Sampling(temperature=1.2, seed=seed)))

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(4)}) > 1


def test_max_tokens_is_length(backend: Backend) -> None:
    driven = Driven(backend)
    number = driven.submit(asking("Tell me", stopping=Stopping(max_tokens=5, ignore_eos=True)))
    driven.run()
    assert driven.reason(number) is FinishReason.LENGTH
    assert driven.finished(number).usage.completion_tokens == 5


def test_stop_string_is_never_seen(backend: Backend) -> None:
    free = Driven(backend).ask(asking("Once upon a time", stopping=Stopping(max_tokens=24, ignore_eos=True)))
    middle = free[len(free) // 2 : len(free) // 2 + 3]
    driven = Driven(backend)
    stopping = Stopping(max_tokens=24, ignore_eos=True, stop=(middle,))
    number = driven.submit(asking("Once upon a time", stopping=stopping))
    driven.run()
    assert driven.text(number) == free[: free.index(middle)]
    assert driven.reason(number) is FinishReason.STOP


def test_prompt_over_the_context_is_refused_with_both_numbers(backend: Backend) -> None:
    driven = Driven(backend)
    number = driven.submit(asking("many words " * 300))
    driven.run()
    failed = driven.failed(number)
    assert failed.code == "context_length_exceeded"
    assert str(driven.loop.limit) in failed.message


def test_cancel_frees_within_one_step(backend: Backend) -> None:
    driven = Driven(backend, step_tokens=32)
    number = driven.submit(asking("A long story. " * 12, stopping=Stopping(max_tokens=400, ignore_eos=True)))
    for _ in range(6):
        driven.step()
    driven.cancel(number)
    driven.step()
    assert (driven.loop.gauge().running, driven.loop.gauge().kv_used) == (0, 0)


def test_credit_gates(backend: Backend) -> None:
    driven = Driven(backend)
    request = asking("Once upon a time", stopping=Stopping(max_tokens=30, ignore_eos=True))
    length = len(backend.tokenize("Once upon a time", add_special=True, parse_special=True))
    number = driven.submit(request, credit=3, prefill=2)
    driven.run()
    assert driven.loop.gauge().kv_used == 2
    driven.grant(number, prefill=length)
    driven.run()
    assert driven.loop.gauge().kv_used == length + 3
    driven.grant(number, 1000)
    driven.run()
    assert driven.finished(number).usage.completion_tokens == 30


def test_more_conversations_than_cells_all_end(backend: Backend) -> None:
    driven = Driven(backend, step_tokens=64)
    stopping = Stopping(max_tokens=70, ignore_eos=True)
    numbers = [driven.submit(asking(f"Number {n}. " * 6, stopping=stopping)) for n in range(4)]
    driven.run()
    assert [driven.finished(number).usage.completion_tokens for number in numbers] == [70] * 4
    assert driven.loop.gauge().kv_used == 0
