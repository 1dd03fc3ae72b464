"""Requests for tests, in few words."""

from __future__ import annotations

import itertools
from typing import Any

from meshnode.domain import GenerationRequest, Kind, ModelCard, ModelId, RequestId, Sampling, Stopping

_numbers = itertools.count(1)


def prompt(text: str = "hello", *, model: str = "fake", tokens: int | None = None, **fields: Any) -> GenerationRequest:
    """A request for a bare prompt, greedy, for at most ``tokens`` tokens."""
    defaults: dict[str, Any] = {"sampling": Sampling(temperature=0, seed=1), "stopping": Stopping(max_tokens=tokens)}
    number = RequestId(f"r{next(_numbers)}")
    return GenerationRequest(id=number, model=ModelId(model), **({"prompt": text} | defaults | fields))


def endless(text: str = "hello", *, tokens: int | None = None, **fields: Any) -> GenerationRequest:
    """A request whose answer goes on for ``tokens`` tokens, or until the context is full."""
    return prompt(text, **({"stopping": Stopping(max_tokens=tokens, ignore_eos=True)} | fields))


def card(name: str = "fake", **fields: Any) -> ModelCard:
    """A model that is on no disk."""
    defaults: dict[str, Any] = {
        "path": f"/models/{name}.gguf",
        "size": 1000,
        "modified_ns": 0,
        "sha256": name,
        "architecture": "fake",
        "quantisation": "f32",
        "context_length": 4096,
    }
    return ModelCard(id=ModelId(name), **(defaults | fields))


def embedding(*inputs: str | tuple[int, ...], model: str = "fake", **fields: Any) -> GenerationRequest:
    """A request to embed texts or token ids."""
    number = RequestId(f"r{next(_numbers)}")
    return GenerationRequest(id=number, model=ModelId(model), kind=Kind.EMBED, inputs=inputs, **fields)


def counting(text: str | tuple[int, ...] | None = None, *, model: str = "fake", **fields: Any) -> GenerationRequest:
    """A request to say what a prompt is to the model."""
    number = RequestId(f"r{next(_numbers)}")
    return GenerationRequest(id=number, model=ModelId(model), kind=Kind.COUNT, prompt=text, **fields)


def ranking(query: str, *documents: str, model: str = "fake", **fields: Any) -> GenerationRequest:
    """A request for scores of documents."""
    number = RequestId(f"r{next(_numbers)}")
    return GenerationRequest(
        id=number, model=ModelId(model), kind=Kind.RERANK, query=query, documents=documents, **fields
    )
