"""Embeddings, models, errors, and clients that leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai

from clientele.checks.checklist import Skipped, same
from clientele.checks.openai_subject import HI, OpenAIChecks, Subject

check = OpenAIChecks()
SLOTS = 4
"""Answers that the servers under test give at a time."""
LONG_PROMPT = "word " * 9000
NEVER_ENDING: dict[str, Any] = {"ignore_eos": True}
FREED_S = 10.0
"""Within which a short request is answered once those that held every slot have left, on a busy machine."""


def alike(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


@check("embeddings: a batch in base64, the SDK's default")
def embed_batch(of: Subject) -> None:
    """In order, one vector for each text. Not validated: the package's type has no base64, which it asks for itself."""
    answer = of.lenient_embedder.embeddings.create(model=of.model, input=["the sea", "a cat", "the sea"])
    same([one.index for one in answer.data], [0, 1, 2], "indexes")
    first, second, third = (one.embedding for one in answer.data)
    assert alike(first, third) > 0.999 > alike(first, second), "the same text differs, or another does not"
    assert answer.usage.prompt_tokens > 0, "no usage"


@check("embeddings: float is what base64 is")
def embed_float(of: Subject) -> None:
    """Both encodings hold the same numbers."""
    packed = of.lenient_embedder.embeddings.create(model=of.model, input="the sea").data[0].embedding
    plain = of.embedder.embeddings.create(model=of.model, input="the sea", encoding_format="float").data[0].embedding
    same(len(plain), len(packed), "dimensions")
    assert alike(packed, plain) > 0.9999, "the numbers differ"


@check("embeddings: dimensions")
def embed_dimensions(of: Subject) -> None:
    """Fewer, of unit length."""
    asked: Any = {"model": of.model, "input": "the sea", "encoding_format": "float"}
    found = of.embedder.embeddings.create(**asked, dimensions=64).data[0].embedding
    same(len(found), 64, "dimensions")
    assert abs(math.hypot(*found) - 1) < 0.01, "not of unit length"


@check("embeddings: token ids")
def embed_tokens(of: Subject) -> None:
    """As LangChain sends them to OpenAI."""
    answer = of.embedder.embeddings.create(model=of.model, input=[[10, 20, 30], [40, 50]], encoding_format="float")
    same(len(answer.data), 2, "vectors")


@check("models: the list")
def models(of: Subject) -> None:
    """The model is in it."""
    assert of.model in [model.id for model in of.sdk.models.list()], "not in the list"


@check("models: one, and the one that is not there")
def one_model(of: Subject) -> None:
    """Retrieved by its id; 404 in the SDK's class."""
    same(of.sdk.models.retrieve(of.model).id, of.model, "id")
    try:
        of.sdk.models.retrieve("no-such-model")
    except openai.NotFoundError as missing:
        same(missing.code, "model_not_found", "code")
        return
    raise AssertionError("a model that is not there was found")


def refused(call: Callable[[], Any], kind: type[openai.APIStatusError]) -> openai.APIStatusError:
    """The error that ``call`` raises, which must be of ``kind``."""
    try:
        call()
    except openai.APIStatusError as error:
        assert isinstance(error, kind), f"{type(error).__name__} ({error.status_code}) instead of {kind.__name__}"
        return error
    raise AssertionError(f"answered instead of {kind.__name__}")


@check("errors: 400 names the field")
def bad_field(of: Subject) -> None:
    """``param`` and a type."""
    error = refused(
        lambda: of.sdk.chat.completions.create(model=of.model, messages=HI, temperature=-3), openai.BadRequestError
    )
    same(error.param, "temperature", "param")
    same(error.type, "invalid_request_error", "type")


@check("errors: 400 for messages that are none")
def bad_messages(of: Subject) -> None:
    """A role that nobody knows."""
    wrong: Any = [{"role": "wizard", "content": "hi"}]
    error = refused(lambda: of.sdk.chat.completions.create(model=of.model, messages=wrong), openai.BadRequestError)
    assert (error.param or "").startswith("messages"), f"param: {error.param!r}"


@check("errors: 404 for a model that is not there")
def unknown_model(of: Subject) -> None:
    """In a chat."""
    error = refused(
        lambda: of.sdk.chat.completions.create(model="no-such-model", messages=HI, max_tokens=1), openai.NotFoundError
    )
    same(error.code, "model_not_found", "code")


@check("errors: context_length_exceeded, one-shot and streamed")
def too_long(of: Subject) -> None:
    """A 400 with its code before the first byte of a stream too."""
    long: Any = [{"role": "user", "content": LONG_PROMPT}]
    for streamed in (False, True):
        error = refused(
            lambda streamed=streamed: of.sdk.chat.completions.create(  # type: ignore[misc]
                model=of.model, messages=long, max_tokens=1, stream=streamed
            ),
            openai.BadRequestError,
        )
        same(error.code, "context_length_exceeded", "code")


@check("errors: 401 where a key is asked for, and only there")
def keys(of: Subject) -> None:
    """AuthenticationError without the key; an answer with it; any key where none is asked for."""
    if not of.target.guarded:
        raise Skipped("no server with a key")
    wrong = of.patient(of.target.guarded, "wrong")
    refused(
        lambda: wrong.chat.completions.create(model=of.model, messages=HI, max_tokens=1), openai.AuthenticationError
    )
    right = of.patient(of.target.guarded, of.target.key)
    assert right.chat.completions.create(model=of.model, messages=HI, max_tokens=1).choices, "no answer with the key"
    assert of.patient(of.target.api, "anything").models.list().data, "a key is asked for where none should be"


@check("errors: a full server tells when to come again, and the SDK does")
def full(of: Subject) -> None:
    """One stream answered, one waiting: it refuses with the headers; once they left, a patient client is answered."""
    if not of.target.guarded:
        raise Skipped("no server that can be full")
    held = of.patient(of.target.guarded, of.target.key).with_options(timeout=20)
    with endless(of, held) as stream:
        assert next(iter(stream)).choices, "no first chunk"
        try:
            with endless(of, held):
                error = refused(lambda: endless(of, held), openai.APIStatusError)
        except openai.APITimeoutError as silent:
            raise AssertionError("left waiting without a word, never refused") from silent
    assert error.status_code in {429, 503}, f"status {error.status_code}"
    hint = error.response.headers
    assert hint.get("retry-after-ms") or hint.get("retry-after"), "no hint when to come again"
    patient = of.patient(of.target.guarded, of.target.key, retries=8)
    assert patient.chat.completions.create(model=of.model, messages=HI, max_tokens=1).choices, "never answered"


def endless(of: Subject, sdk: openai.OpenAI) -> openai.Stream[Any]:
    """A stream that goes on until its client leaves."""
    return sdk.chat.completions.create(
        model=of.model, messages=HI, max_tokens=6000, stream=True, extra_body=NEVER_ENDING
    )


def answered_soon(of: Subject) -> None:
    """A short request is answered, which needs a slot."""
    began = time.monotonic()
    of.sdk.with_options(timeout=FREED_S).chat.completions.create(model=of.model, messages=HI, max_tokens=1)
    took = time.monotonic() - began
    assert took < FREED_S, f"answered after {took:.1f} s"


@check("cancel: breaking off streams frees their slots")
def leave_streams(of: Subject) -> None:
    """As many as there are slots, all left."""
    streams = [endless(of, of.sdk) for _ in range(SLOTS)]
    for stream in streams:
        next(iter(stream))
        stream.close()
    answered_soon(of)


@check("cancel: leaving one-shot answers frees their slots")
def leave_answers(of: Subject) -> None:
    """Clients that gave up waiting."""
    hasty = of.sdk.with_options(timeout=1.0)
    for _ in range(SLOTS):
        try:
            hasty.chat.completions.create(model=of.model, messages=HI, max_tokens=6000, extra_body=NEVER_ENDING)
        except openai.APITimeoutError:
            continue
        raise AssertionError("6,000 tokens in a second")
    answered_soon(of)
