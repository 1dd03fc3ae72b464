"""One suite for what embeds: the fake, and llama.cpp with a generative model and with an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from meshnode.engine.backend import Backend
from meshnode.engine.fake import FakeBackend
from meshnode.engine.fake_embedding import FakeEmbedding
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.vectors import EmbeddingBackend, Piece, Vector
from tests.kit.llamas import cpu_load
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinybert import write_tiny_bert
from tests.kit.tinygguf import write_tiny_gguf

ONE, OTHER = [5, 6, 7, 8, 9, 10, 11], [12, 13, 14]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    """Small models of both kinds, in llama.cpp."""
    folder = tmp_path_factory.mktemp("models")
    tiny = open_llama(cpu_load(write_tiny_gguf(folder / "tiny.gguf"), n_ctx=2048))
    bert = open_llama(cpu_load(write_tiny_bert(folder / "bert.gguf")))
    yield {"tiny": tiny, "bert": bert}
    tiny.close()
    bert.close()


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Backend]:
    """llama.cpp with SmolLM2."""
    backend = open_llama(cpu_load(smollm2_path(), n_ctx=1024))
    yield backend
    backend.close()


KINDS = ["fake", "fake encoder", "tiny", "bert", pytest.param("smollm2", marks=pytest.mark.model)]


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, loaded: dict[str, Backend]) -> Backend:
    """Each of them."""
    if request.param == "smollm2":
        found: Backend = request.getfixturevalue("smollm2")
        return found
    if request.param in loaded:
        return loaded[request.param]
    fake = FakeBackend(2048)
    if request.param == "fake encoder":
        fake.embeds = FakeEmbedding(fake.info.n_vocab, 128, whole=True)
    return fake


@pytest.fixture
def embeds(backend: Backend) -> EmbeddingBackend:
    """What embeds with it."""
    return backend.embedding()


@pytest.fixture
def cuttable(embeds: EmbeddingBackend) -> EmbeddingBackend:
    """Only those that compute an input in parts."""
    if embeds.shape.whole:
        pytest.skip("an encoder computes an input whole")
    return embeds


def whole(seq: int, tokens: Sequence[int]) -> Piece:
    return Piece(seq, 0, tokens, len(tokens))


def vector(embeds: EmbeddingBackend, tokens: Sequence[int]) -> Vector:
    (found,) = embeds.embed([whole(0, tokens)])
    return found


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_vector_has_the_width_that_the_model_says(backend: Backend, embeds: EmbeddingBackend) -> None:
    found = vector(embeds, ONE)
    assert found.shape == (embeds.shape.width,) == (backend.info.embedding_length,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert "embed" in backend.info.kinds


def test_the_same_input_gives_the_same_vector_and_another_another(embeds: EmbeddingBackend) -> None:
    first = vector(embeds, ONE)
    other = vector(embeds, OTHER)
    assert cosine(first, vector(embeds, ONE)) > 0.99999
    assert cosine(first, other) < 0.99


def test_the_order_of_tokens_matters(embeds: EmbeddingBackend) -> None:
    assert cosine(vector(embeds, ONE), vector(embeds, ONE[::-1])) < 0.99999


def test_company_does_not_matter_and_the_order_is_that_of_the_batch(embeds: EmbeddingBackend) -> None:
    alone = [vector(embeds, ONE), vector(embeds, OTHER)]
    together = embeds.embed([whole(3, ONE), whole(0, OTHER)])
    assert [cosine(a, b) > 0.999 for a, b in zip(alone, together, strict=True)] == [True, True]


def test_the_longest_input_fits_and_one_token_more_does_not(embeds: EmbeddingBackend) -> None:
    longest = embeds.shape.longest
    tokens = [5 + n % 7 for n in range(longest)]
    step = embeds.shape.rows if embeds.shape.whole else 512
    for start in range(0, longest, step):
        found = embeds.embed([Piece(0, start, tokens[start : start + step], longest)])
    assert len(found) == 1
    with pytest.raises(ValueError):
        embeds.embed([Piece(0, 0, tokens[:step], longest + 1)])


def test_parts_give_what_the_whole_gives(cuttable: EmbeddingBackend) -> None:
    alone = vector(cuttable, ONE)
    assert cuttable.embed([Piece(0, 0, ONE[:3], len(ONE))]) == []
    found = cuttable.embed([Piece(0, 3, ONE[3:5], len(ONE)), whole(1, OTHER)])
    assert len(found) == 1
    (last,) = cuttable.embed([Piece(0, 5, ONE[5:], len(ONE))])
    assert cosine(alone, last) > 0.999
    assert cosine(found[0], vector(cuttable, OTHER)) > 0.999


def test_what_was_begun_can_be_forgotten(cuttable: EmbeddingBackend) -> None:
    alone = vector(cuttable, OTHER)
    cuttable.embed([Piece(0, 0, ONE[:3], len(ONE))])
    cuttable.forget(0)
    assert cosine(alone, vector(cuttable, OTHER)) > 0.99999
    cuttable.forget(0)


def test_memory_is_given_back_and_taken_again(embeds: EmbeddingBackend) -> None:
    before = vector(embeds, ONE)
    embeds.release()
    assert not embeds.idle_memory
    embeds.release()
    assert cosine(before, vector(embeds, ONE)) > 0.99999


def test_it_does_not_disturb_generation(backend: Backend, embeds: EmbeddingBackend) -> None:
    from tests.kit.driven import Driven, asking

    if "generate" not in backend.info.kinds:
        pytest.skip("it generates nothing")
    alone = Driven(backend).ask(asking("Once upon a time"))
    driven = Driven(backend)
    number = driven.submit(asking("Once upon a time"))
    for _ in range(8):
        driven.step()
        embeds.embed([whole(0, ONE)])
    assert driven.run().text(number) == alone


@pytest.mark.parametrize("pieces", [[], [Piece(0, 0, [10**9], 1)], [Piece(9999, 0, [1], 1)], [Piece(0, 0, [], 0)]])
def test_a_batch_that_cannot_be_is_refused(embeds: EmbeddingBackend, pieces: list[Piece]) -> None:
    with pytest.raises(ValueError):
        embeds.embed(pieces)
    vector(embeds, ONE)


def test_a_closed_model_is_closed_whatever_was_embedded(tmp_path: Path) -> None:
    for path in (write_tiny_gguf(tmp_path / "tiny.gguf"), write_tiny_bert(tmp_path / "bert.gguf")):
        backend = open_llama(cpu_load(path))
        vector(backend.embedding(), ONE)
        backend.close()
        backend.close()
