"""What a file says of pooling, and the context that embeds: when it is made, how large, when it is given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshnode.engine.backend import Aborted, Row
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.llama.model import LlamaBackend
from meshnode.engine.vectors import Piece
from meshnode.errors import ModelFailed
from tests.kit.llamas import cpu_load
from tests.kit.tinybert import CLS, CONTEXT, FIRST, MEAN, RANK, SEP, tiny_bert, write_tiny_bert
from tests.kit.tinygguf import STRING, U32, Value, tiny_gguf, write_tiny_gguf


def pooled_llama(path: Path, pooling: int) -> LlamaBackend:
    """A small generative model whose file says how to pool."""
    made = tiny_gguf()
    made.metadata["llama.pooling_type"] = Value(U32, pooling)
    path.write_bytes(made.encode())
    return open_llama(cpu_load(path, n_ctx=512))


def embed(backend: LlamaBackend, tokens: list[int]) -> list[float]:
    (vector,) = backend.embedding().embed([Piece(0, 0, tokens, len(tokens))])
    return [float(number) for number in vector]


@pytest.mark.parametrize("pooling", [None, MEAN, FIRST])
def test_an_encoder_only_embeds(tmp_path: Path, pooling: int | None) -> None:
    backend = open_llama(cpu_load(write_tiny_bert(tmp_path / "bert.gguf", pooling=pooling)))
    shape = backend.embedding().shape
    assert backend.info.kinds == ("embed",)
    assert (shape.whole, shape.longest, backend.info.n_ctx) == (True, CONTEXT, CONTEXT)
    assert not backend.embedding().idle_memory
    with pytest.raises(ValueError, match="generates nothing"):
        backend.decode([Row(0, 1, 0, True)])
    assert backend.remove(0)
    backend.close()


def test_pooling_is_the_files(tmp_path: Path) -> None:
    means, firsts, lasts = (pooled_llama(tmp_path / f"{pooling}.gguf", pooling) for pooling in (1, 2, 3))
    assert means.info.kinds == ("embed",)
    assert not means.embedding().shape.whole
    tokens = [5, 6, 7, 8]
    assert np.allclose(embed(firsts, tokens), embed(firsts, [5, 9, 9]), atol=1e-3)
    assert np.allclose(embed(firsts, tokens), embed(lasts, [5]), atol=1e-3)
    prefixes = [embed(lasts, tokens[:count]) for count in (1, 2, 3, 4)]
    assert np.allclose(np.mean(prefixes, axis=0), embed(means, tokens), atol=1e-3)
    for backend in (means, firsts, lasts):
        backend.close()


def test_an_unknown_pooling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="way 9"):
        open_llama(cpu_load(write_tiny_bert(tmp_path / "odd.gguf", pooling=9)))


def test_a_score_is_what_the_head_makes_of_the_first_tokens_vector(tmp_path: Path) -> None:
    made = tiny_bert(pooling=RANK)
    ranks = open_llama(cpu_load(write_tiny_bert(tmp_path / "ranks.gguf", pooling=RANK)))
    reads = open_llama(cpu_load(write_tiny_bert(tmp_path / "reads.gguf", pooling=FIRST)))
    pairs = [ranks.pair("the quick fox", "hello world"), ranks.pair("cat", "the cat sat on the mat"), [2, 5, 3]]
    assert ranks.info.kinds == ("rerank",)
    assert ranks.info.embedding_length == 0
    backend = ranks.embedding()
    scores = backend.embed([Piece(seq, 0, pair, len(pair)) for seq, pair in enumerate(pairs)])
    for pair, score in zip(pairs, scores, strict=True):
        (vector,) = reads.embedding().embed([Piece(0, 0, pair, len(pair))])
        hidden = np.tanh(made.tensors["cls.weight"] @ vector + made.tensors["cls.bias"])
        expected = made.tensors["cls.output.weight"] @ hidden + made.tensors["cls.output.bias"]
        assert score.shape == (1,)
        assert np.allclose(score, expected, atol=1e-3)
    assert len({float(score[0]) for score in scores}) == 3
    for loaded in (ranks, reads):
        loaded.close()


def test_a_pair_stands_between_the_models_own_marks(tmp_path: Path) -> None:
    backend = open_llama(cpu_load(write_tiny_bert(tmp_path / "ranks.gguf", pooling=RANK)))
    query, document = (backend.tokenize(text, add_special=False, parse_special=False) for text in ("the cat", "a mat"))
    assert backend.pair("the cat", "a mat") == [CLS, *query, SEP, *document, SEP]
    assert SEP not in backend.pair("the cat", "[SEP]")[4:-1], "a text cannot forge a mark"
    backend.close()
    made = tiny_bert(pooling=RANK)
    made.metadata["tokenizer.chat_template.rerank"] = Value(STRING, "[CLS]{document}[SEP]{query}")
    (path := tmp_path / "told.gguf").write_bytes(made.encode())
    backend = open_llama(cpu_load(path))
    assert backend.pair("the cat {document}", "a mat")[:4] == [CLS, *document, SEP]
    backend.close()


def test_a_context_beside_generation_is_made_when_first_needed_and_grows(tmp_path: Path) -> None:
    backend = open_llama(cpu_load(write_tiny_gguf(tmp_path / "tiny.gguf"), n_ctx=2048))
    embedding = backend.embedding()
    assert not embedding.idle_memory
    embed(backend, [5])
    first = embedding.context
    embed(backend, [6] * 512)
    assert embedding.context is first
    for start in range(0, 2000, 500):
        found = embedding.embed([Piece(0, start, [5] * 500, 2000)])
    assert len(found) == 1
    backend.close()


def test_an_abort_breaks_off_a_batch_and_leaves_nothing(tmp_path: Path) -> None:
    for path in (write_tiny_gguf(tmp_path / "tiny.gguf"), write_tiny_bert(tmp_path / "bert.gguf")):
        backend = open_llama(cpu_load(path))
        before = embed(backend, [5, 6])
        backend.set_abort(lambda: True)
        with pytest.raises(Aborted):
            embed(backend, [5, 6])
        backend.set_abort(None)
        assert np.allclose(before, embed(backend, [5, 6]), atol=1e-5)
        backend.close()
