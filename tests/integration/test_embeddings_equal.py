"""Vectors equal to llama-server's on the same files, alone and in company; recorded by scripts/record_embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from meshnode.domain import GenerationRequest, Kind, ModelId, RequestId
from meshnode.engine.backend import Backend
from meshnode.engine.llama.loading import open_llama
from meshnode.events import EmbeddingResult
from tests.kit.driven import Driven
from tests.kit.llamas import cpu_load
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinybert import FIRST, MEAN, write_tiny_bert

GOLDEN = Path(__file__).parent.parent / "golden" / "embeddings"
CLOSE = 0.9999
COMPANY = 0.999
"""llama.cpp rounds otherwise in larger batches: its server's own vectors, alone and in company, are no more alike."""
Vectors = list[NDArray[np.float32]]


def golden(name: str) -> tuple[list[str | tuple[int, ...]], list[int], Vectors, Vectors]:
    """Inputs, their tokens as counted there, their vectors alone, and those in one request."""
    recorded: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["inputs"]
    inputs = [each["input"] if isinstance(each["input"], str) else tuple(each["input"]) for each in recorded]
    alone, together = ([vector(each[key]) for each in recorded] for key in ("alone", "together"))
    return inputs, [each["tokens"] for each in recorded], alone, together


def vector(text: str) -> NDArray[np.float32]:
    """As it was recorded."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def likeness(some: Vectors, others: Vectors) -> float:
    """The least cosine of two at the same place."""
    return min(float(a @ b) for a, b in zip(some, others, strict=True))


def embedded(
    backend: Backend, inputs: Sequence[str | tuple[int, ...]], *, step_tokens: int = 512
) -> tuple[int, Vectors]:
    """Tokens of one request with these inputs, and its vectors in their order."""
    driven = Driven(backend, step_tokens=step_tokens)
    request = GenerationRequest(id=RequestId("r"), model=ModelId("m"), kind=Kind.EMBED, inputs=tuple(inputs))
    number = driven.submit(request)
    driven.run()
    results = [event for event in driven.events(number) if isinstance(event, EmbeddingResult)]
    results.sort(key=lambda event: event.index)
    return driven.finished(number).usage.prompt_tokens, [np.frombuffer(event.vector, "<f4") for event in results]


def check(backend: Backend, name: str) -> None:
    """One by one, all in one batch, and all in batches so small that inputs are cut where they can be."""
    inputs, tokens, alone, together = golden(name)
    found = [embedded(backend, [given]) for given in inputs]
    assert [used for used, _ in found] == tokens
    assert likeness([vectors[0] for _, vectors in found], alone) >= CLOSE
    used, shared = embedded(backend, inputs)
    assert used == sum(tokens)
    assert likeness(shared, together) >= CLOSE
    _, cut = embedded(backend, inputs, step_tokens=7)
    assert likeness(cut, alone) >= COMPANY
    assert likeness(together, alone) >= COMPANY


@pytest.mark.parametrize(("name", "pooling"), [("bert_mean", MEAN), ("bert_cls", FIRST)])
def test_an_encoder_gives_what_llama_server_gives(tmp_path: Path, name: str, pooling: int) -> None:
    backend = open_llama(cpu_load(write_tiny_bert(tmp_path / "bert.gguf", pooling=pooling)))
    check(backend, name)
    backend.close()


@pytest.mark.model
def test_smollm2_pooled_gives_what_llama_server_gives() -> None:
    backend = open_llama(cpu_load(smollm2_path()))
    check(backend, "smollm2-135m-instruct-q4_1")
    backend.close()


def test_the_inputs_are_told_apart() -> None:
    for path in GOLDEN.glob("*.json"):
        _, _, vectors, _ = golden(path.stem)
        pairs = [float(a @ b) for place, a in enumerate(vectors) for b in vectors[:place]]
        assert max(pairs) < COMPANY, path
