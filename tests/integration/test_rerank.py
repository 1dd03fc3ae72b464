"""Documents scored: under the loop on the fake, and by a model in a worker as the library scores the same pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import trio

from meshnode.domain import GenerationRequest
from meshnode.engine.embedding import MOST_CHARACTERS
from meshnode.engine.fake import VOCABULARY, FakeBackend
from meshnode.engine.fake_embedding import FakeEmbedding
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import Engine, open_worker
from meshnode.engine.vectors import Piece, Vector
from meshnode.events import Counted, Event, Failed, Finished, RerankResult
from tests.kit.driven import Driven
from tests.kit.requests import counting, embedding, prompt, ranking
from tests.kit.tinybert import RANK, write_tiny_bert

DOCUMENTS = ["the cat sat on the mat", "hello world", "the quick brown fox jumps over the lazy dog", "a"]


async def ask(engine: Engine, request: GenerationRequest) -> list[Event]:
    """All events of one request."""
    async with engine.generate(request) as events:
        return [event async for event in events]


async def test_documents_are_scored_in_a_worker_as_the_library_scores_them(tmp_path: Path) -> None:
    path = str(write_tiny_bert(tmp_path / "ranks.gguf", pooling=RANK))
    load = Load(path=path, threads=1, threads_batch=1, gpu_layers=0)
    with trio.fail_after(60):
        async with open_worker(load, spawn=worker_spawner(os.environ)) as engine:
            events = await ask(engine, ranking("cat", *DOCUMENTS))
            counted = await ask(engine, counting("the cat"))
            refused = [await ask(engine, request) for request in (prompt("x"), embedding("x"))]
            assert engine.info.kinds == ("rerank",)
            assert engine.info.prefill_tps > 0
    direct = open_llama(load)
    pairs = [direct.pair("cat", document) for document in DOCUMENTS]
    expected = [float(direct.embedding().embed([Piece(0, 0, pair, len(pair))])[0][0]) for pair in pairs]
    direct.close()
    scores = {event.index: event.score for event in events if isinstance(event, RerankResult)}
    assert scores == pytest.approx(dict(enumerate(expected)), abs=1e-4)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.prompt_tokens == sum(map(len, pairs))
    assert any(isinstance(event, Counted) and event.tokens == 4 for event in counted), "[CLS] the cat [SEP]"
    assert [last.code for *_, last in refused if isinstance(last, Failed)] == ["capability_unavailable"] * 2


# --- under the loop, on the fake --------------------------------------------------------------


def fake(*, longest: int = 4096) -> FakeEmbedding:
    """What reads whole pairs."""
    return FakeEmbedding(VOCABULARY, longest, whole=True)


def ranker(*, longest: int = 4096) -> Driven:
    """A loop whose model ranks and does nothing else."""
    backend = FakeBackend(4096, kinds=("rerank",))
    backend.embeds = fake(longest=longest)
    return Driven(backend)


def test_each_document_gets_a_score_of_its_own_pair() -> None:
    driven = ranker()
    number = driven.submit(ranking("who?", "me", "you", "me"))
    other = driven.submit(ranking("what?", "me"))
    driven.run()
    scores = {event.index: event.score for event in driven.events(number) if isinstance(event, RerankResult)}
    assert driven.kinds(number) == ["Started", "RerankResult", "Finished"]
    pair = FakeBackend().pair("who?", "you")
    (vector,) = fake().embed([Piece(0, 0, pair, len(pair))])
    assert scores[1] == pytest.approx(float(vector[0]), abs=1e-5)
    assert scores[0] == scores[2] != scores[1]
    assert [event.score for event in driven.events(other) if isinstance(event, RerankResult)] != [scores[0]]
    read = [len(FakeBackend().pair("who?", document)) for document in ("me", "you", "me")]
    assert driven.finished(number).usage.prompt_tokens == sum(read)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ranking("q"), "query"),
        (ranking("", "a"), "query"),
        (ranking("q", "a", ""), "documents[1]"),
        (ranking("q", "a", "b" * 200), "documents[1]"),
        (ranking("q" * MOST_CHARACTERS, "a"), "documents[0]"),
        (embedding("x"), "model"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_ranked_is_refused_by_name(request_: GenerationRequest, param: str) -> None:
    driven = ranker(longest=100)
    number = driven.submit(request_)
    assert driven.run().failed(number).param == param


def test_a_model_that_generates_does_not_rank() -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(ranking("q", "a"))
    assert driven.run().failed(number).code == "capability_unavailable"


def test_a_score_that_is_no_number_fails_its_request_alone() -> None:
    class Broken(FakeEmbedding):
        def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
            return [np.full(1, np.nan, np.float32) for _ in super().embed(pieces)]

    backend = FakeBackend(4096, kinds=("rerank",))
    backend.embeds = Broken(VOCABULARY, 4096)
    driven = Driven(backend)
    number = driven.submit(ranking("q", "a"))
    assert driven.run().failed(number).code == "model_failed"
