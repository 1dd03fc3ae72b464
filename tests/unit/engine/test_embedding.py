"""Embedding requests under the loop, on the fake: batches, fairness, credit, and all that can go wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import GenerationRequest, Kind, ModelId, RequestId, ServiceClass, Stopping
from meshnode.engine.backend import Aborted
from meshnode.engine.embedding import IDLE_S, MOST_CHARACTERS, MOST_TOKENS
from meshnode.engine.fake import VOCABULARY, FakeBackend
from meshnode.engine.fake_embedding import WIDTH, FakeEmbedding
from meshnode.engine.vectors import Piece, Vector, finished_vector
from meshnode.events import EmbeddingResult, Failed, Finished, Prefilling, Started
from tests.kit.driven import Driven, asking
from tests.kit.requests import embedding

Input = str | tuple[int, ...]


def over(fake: FakeEmbedding, *, step_tokens: int = 512) -> Driven:
    """A loop whose model embeds with ``fake``."""
    backend = FakeBackend(4096)
    backend.embeds = fake
    return Driven(backend, step_tokens=step_tokens)


def fake(*, longest: int = 4096, whole: bool = False, rows: int = 512) -> FakeEmbedding:
    return FakeEmbedding(VOCABULARY, longest, whole=whole, rows=rows)


def vectors(driven: Driven, number: int) -> dict[int, bytes]:
    """What a request got, by input."""
    return {event.index: event.vector for event in driven.events(number) if isinstance(event, EmbeddingResult)}


def over_with(driven: Driven, number: int) -> bool:
    """Whether a request ended well."""
    return any(isinstance(event, Finished) for event in driven.events(number))


def expected(given_: Input, dimensions: int | None = None) -> bytes:
    """The vector of one input alone."""
    tokens = list(given_) if isinstance(given_, tuple) else FakeBackend().tokenize(
        given_, add_special=True, parse_special=True
    )  # fmt: skip
    (vector,) = fake().embed([Piece(0, 0, tokens, len(tokens))]) if len(tokens) <= 512 else (long_vector(tokens),)
    return finished_vector(vector, dimensions)


def long_vector(tokens: Sequence[int]) -> Vector:
    backend, found = fake(), []
    for start in range(0, len(tokens), 512):
        found = backend.embed([Piece(0, start, tokens[start : start + 512], len(tokens))])
    return found[0]


def close(one: bytes, other: bytes) -> bool:
    return bool(np.allclose(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4"), atol=1e-5))


# --- answers ----------------------------------------------------------------------------------


def test_texts_and_token_ids_become_vectors_in_one_batch() -> None:
    backend = fake()
    driven = over(backend)
    number = driven.submit(embedding("hello", (1, 2, 3), "world"))
    driven.run()
    assert driven.kinds(number) == ["Started", "EmbeddingResult", "Finished"]
    assert len(backend.batches) == 1
    assert vectors(driven, number) == {0: expected("hello"), 1: expected((1, 2, 3)), 2: expected("world")}
    assert driven.finished(number).usage.prompt_tokens == 6 + 3 + 6
    assert driven.finished(number).usage.completion_tokens == 0


def test_dimensions_are_the_first_so_many_at_length_one() -> None:
    driven = over(fake())
    number = driven.submit(embedding("hello", dimensions=8))
    driven.run()
    assert vectors(driven, number) == {0: expected("hello", 8)}


def test_an_input_longer_than_a_batch_is_computed_in_parts_and_says_how_far_it_is() -> None:
    driven = over(fake(), step_tokens=100)
    number = driven.submit(embedding("x" * 999))
    driven.run()
    assert close(vectors(driven, number)[0], expected("x" * 999))
    told = [event.done for event in driven.events(number) if isinstance(event, Prefilling)]
    assert told == sorted(told)
    assert told[-1] == 900
    assert len(told) == 9


def test_an_encoder_gets_its_inputs_whole_however_long() -> None:
    backend = fake(longest=2000, whole=True)
    driven = over(backend, step_tokens=64)
    number = driven.submit(embedding("x" * 1500, "y" * 40, "z" * 40))
    driven.run()
    assert [[len(piece.tokens) for piece in batch] for batch in backend.batches] == [[1501], [41], [41]]
    assert len(vectors(driven, number)) == 3


TEXTS = st.lists(st.text("abc é", min_size=1, max_size=150), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.booleans(), st.integers(33, 200), st.data())
def test_every_input_gets_its_own_vector_whatever_runs_beside_it(
    requests: list[list[str]], whole: bool, step_tokens: int, data: st.DataObject
) -> None:
    driven = over(fake(whole=whole), step_tokens=step_tokens)
    numbers = [driven.submit(embedding(*texts)) for texts in requests]
    cancelled = data.draw(st.sets(st.sampled_from(numbers)))
    for number in sorted(cancelled):
        for _ in range(data.draw(st.integers(0, 2))):
            driven.step()
        driven.cancel(number)
    driven.run()
    for number, texts in zip(numbers, requests, strict=True):
        found = vectors(driven, number)
        if number not in cancelled or driven.kinds(number)[-1:] == ["Finished"]:
            assert sorted(found) == list(range(len(texts)))
        assert all(close(vector, expected(texts[index])) for index, vector in found.items())
    assert driven.loop.gauge().running == 0


# --- beside others ------------------------------------------------------------------------------


def test_a_stream_gets_a_token_in_every_step_beside_a_large_request() -> None:
    driven = over(fake(), step_tokens=64)
    stream = driven.submit(asking("go on", stopping=Stopping(max_tokens=40, ignore_eos=True)))
    driven.step()
    many = driven.submit(embedding(*["x" * 50] * 100))
    while not over_with(driven, many):
        before = len(driven.tokens(stream))
        driven.step()
        assert len(driven.tokens(stream)) > before or driven.reason(stream) is not None
    assert len(driven.tokens(stream)) > 20


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    driven = over(fake(), step_tokens=64)
    large = driven.submit(embedding(*["x" * 30] * 200))
    for _ in range(10):
        driven.step()
    small = driven.submit(embedding("hello"))
    driven.step()
    assert isinstance(driven.events(small)[-1], Finished)
    assert not isinstance(driven.events(large)[-1], Finished)
    driven.run()
    assert len(vectors(driven, large)) == 200


def test_the_owner_goes_first_and_equals_share_by_tokens() -> None:
    driven = over(fake(), step_tokens=64)
    strangers = [driven.submit(embedding(*["x" * size] * 60, service_class=ServiceClass.NEWCOMER)) for size in (15, 31)]
    for _ in range(20):
        driven.step()
    counts = [len(vectors(driven, number)) * tokens for number, tokens in zip(strangers, (16, 32), strict=True)]
    assert counts[0] == pytest.approx(counts[1], abs=64)
    owner = driven.submit(embedding(*["x" * 30] * 20))
    before = [len(vectors(driven, number)) for number in strangers]
    while not over_with(driven, owner):
        driven.step()
    assert [len(vectors(driven, number)) - had <= 2 for number, had in zip(strangers, before, strict=True)] == [
        True
    ] * 2


# --- credit -------------------------------------------------------------------------------------


def test_no_input_begins_before_its_first_position_is_granted() -> None:
    driven = over(fake())
    number = driven.submit(embedding("x" * 9, "y" * 9, "z" * 9), prefill=0)
    driven.run()
    assert driven.events(number) == []
    driven.grant(number, prefill=1)
    driven.run()
    assert sorted(vectors(driven, number)) == [0]
    driven.grant(number, prefill=9)
    driven.run()
    assert sorted(vectors(driven, number)) == [0]
    driven.grant(number, prefill=1)
    driven.run()
    assert sorted(vectors(driven, number)) == [0, 1]
    driven.grant(number, prefill=100)
    driven.run()
    assert isinstance(driven.events(number)[-1], Finished)


def test_what_was_begun_is_computed_to_its_end_on_the_credit_it_has() -> None:
    driven = over(fake(), step_tokens=64)
    number = driven.submit(embedding("x" * 999), prefill=10)
    other = driven.submit(embedding("y" * 99))
    driven.run()
    assert close(vectors(driven, number)[0], expected("x" * 999))
    assert close(vectors(driven, other)[0], expected("y" * 99))


# --- what can go wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "code", "param", "words"),
    [
        (embedding(), "invalid_value", "input", "no input"),
        (embedding("a", ""), "invalid_value", "input[1]", "empty"),
        (embedding(()), "invalid_value", "input[0]", "empty"),
        (embedding((1, VOCABULARY)), "invalid_value", "input[0]", str(VOCABULARY)),
        (embedding((-1,)), "invalid_value", "input[0]", "-1"),
        (embedding("a", "b" * 4096), "context_length_exceeded", "input[1]", "4097 tokens; the model takes 4096"),
        (embedding("a" * (MOST_CHARACTERS + 1)), "invalid_value", "input[0]", str(MOST_CHARACTERS)),
        (embedding("a", dimensions=WIDTH + 1), "invalid_value", "dimensions", "33; the vectors of this model"),
        (embedding("a", dimensions=0), "invalid_value", "dimensions", "0"),
        (embedding(*["a" * 4000] * 80), "context_length_exceeded", "input", str(MOST_TOKENS)),
    ],
)  # fmt: skip
def test_what_cannot_be_embedded_is_refused_by_name(
    request_: GenerationRequest, code: str, param: str, words: str
) -> None:
    driven = over(fake())
    number = driven.submit(request_)
    other = driven.submit(embedding("fine"))
    driven.run()
    failed = driven.failed(number)
    assert (failed.code, failed.param) == (code, param)
    assert words in failed.message
    assert vectors(driven, other) == {0: expected("fine")}


class Failing(FakeEmbedding):
    """Fails each batch with a token 13 in it, and those of the numbers given, by what is told."""

    def __init__(self, error: Exception, at: Sequence[int] = ()) -> None:
        super().__init__(VOCABULARY, 4096)
        self._error = error
        self._at = at
        self._calls = itertools.count()

    def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
        """The fake's, or the error."""
        if next(self._calls) in self._at or any(13 in piece.tokens for piece in pieces):
            for piece in pieces:
                self.forget(piece.seq)
            raise self._error
        return super().embed(pieces)


def test_a_batch_that_fails_fails_only_who_fails_alone() -> None:
    complaints: list[str] = []
    backend = FakeBackend(4096)
    backend.embeds = Failing(RuntimeError("secret"))
    driven = Driven(backend, complain=complaints.append)
    numbers = [
        driven.submit(embedding("fine", "too")),
        driven.submit(embedding((1, 13))),
        driven.submit(embedding("ok")),
    ]
    driven.run()
    assert driven.failed(numbers[1]).code == "internal_error"
    assert "secret" not in driven.failed(numbers[1]).message
    assert len(complaints) == 1
    assert vectors(driven, numbers[0]) == {0: expected("fine"), 1: expected("too")}
    assert vectors(driven, numbers[2]) == {0: expected("ok")}


@pytest.mark.parametrize("at", [[0], [1], [2], [0, 1, 2]])
def test_what_an_abort_broke_off_is_computed_again(at: list[int]) -> None:
    driven = over(Failing(Aborted(), at), step_tokens=64)
    number = driven.submit(embedding("x" * 200, "y" * 20))
    driven.run()
    assert close(vectors(driven, number)[0], expected("x" * 200))
    assert close(vectors(driven, number)[1], expected("y" * 20))


class Broken(FakeEmbedding):
    """Its vectors are no numbers where an input begins with 13."""

    def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
        """The fake's, or none."""
        found = super().embed(pieces)
        ends = [piece for piece in pieces if piece.last]
        return [v * np.nan if piece.tokens[0] == 13 else v for v, piece in zip(found, ends, strict=True)]


def test_a_vector_that_is_no_number_fails_its_request_alone() -> None:
    driven = over(Broken(VOCABULARY, 4096), step_tokens=64)
    broken = driven.submit(embedding((13, 1), (1, 2), tuple(range(14, 90))))
    fine = driven.submit(embedding("fine"))
    driven.run()
    assert driven.failed(broken).code == "model_failed"
    assert [type(event) for event in driven.events(broken)] == [Started, Failed]
    assert vectors(driven, fine) == {0: expected("fine")}


def test_a_cancelled_request_says_nothing_more_and_leaves_nothing() -> None:
    driven = over(fake(), step_tokens=64)
    number = driven.submit(embedding("x" * 500, "y"))
    driven.step()
    seen = len(driven.events(number))
    driven.cancel(number)
    driven.run()
    assert len(driven.events(number)) == seen
    assert driven.loop.gauge().running == 0
    again = driven.submit(embedding("x" * 500))
    driven.run()
    assert close(vectors(driven, again)[0], expected("x" * 500))


def test_a_full_queue_is_said() -> None:
    backend = FakeBackend(4096)
    driven = Driven(backend, queue_limit=2)
    numbers = [driven.submit(embedding("a" * 10)) for _ in range(3)]
    driven.run()
    assert driven.failed(numbers[2]).code == "overloaded"
    assert [len(vectors(driven, number)) for number in numbers] == [1, 1, 0]


def test_a_model_that_does_not_do_what_is_asked_says_what_it_does() -> None:
    driven = over(fake())
    number = driven.submit(GenerationRequest(id=RequestId("r"), model=ModelId("m"), kind=Kind.RERANK))
    driven.run()
    assert driven.failed(number).code == "capability_unavailable"
    assert "generate, embed, not rerank" in driven.failed(number).message


def test_memory_is_given_back_when_nobody_asks_for_a_while() -> None:
    backend = fake()
    driven = over(backend)
    driven.submit(embedding("hello"))
    driven.run()
    driven.step()
    assert (backend.idle_memory, driven.loop.lingers) == (True, True)
    driven.now += IDLE_S
    driven.step()
    assert (backend.idle_memory, driven.loop.lingers) == (False, False)
