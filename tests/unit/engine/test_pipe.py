"""Whatever runner and worker say to each other arrives as it was said, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import (
    CallerId,
    FinishReason,
    GenerationRequest,
    Message,
    Role,
    Sampling,
    ServiceClass,
    Stopping,
    TextPart,
)
from meshnode.engine.pipe import (
    UNLIMITED,
    Cancel,
    FromWorker,
    Gauge,
    Grant,
    Load,
    LoadFailed,
    LoadProgress,
    Ping,
    Pong,
    Ready,
    Step,
    Stop,
    Submit,
    ToWorker,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from meshnode.events import ChoiceFinished, Failed, Finished, Prefilling, Queued, Started, TextDelta, Timings, Usage
from tests.kit.workers import INFO

REQUEST = GenerationRequest(
    id="r",  # type: ignore[arg-type]
    model="m",  # type: ignore[arg-type]
    messages=(Message(role=Role.USER, parts=(TextPart(text="héllo \U0001f600 \0"),)),),
    sampling=Sampling(seed=2**64 - 1, logit_bias=((1, -100.0),)),
    stopping=Stopping(max_tokens=5, stop=("a", "é")),
    service_class=ServiceClass.NOTE,
    caller=CallerId("12D3KooWStranger"),
)


@pytest.mark.parametrize(
    "message",
    [
        Load(path="/models/ä.gguf", n_ctx=512),
        Submit(number=1, request=REQUEST),
        Submit(number=2, request=REQUEST, credit=7, prefill=0),
        Grant(number=1, tokens=5),
        Grant(number=1, tokens=0, prefill=2**53),
        Cancel(number=1),
        Ping(nonce=2**63),
        Stop(),
    ],
)
def test_to_the_worker(message: ToWorker) -> None:
    assert decode_to_worker(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        LoadProgress(fraction=0.5),
        Ready(info=INFO),
        LoadFailed(reason="no such file"),
        Pong(nonce=1, gauge=Gauge(running=1, waiting=2, kv_used=3, kv_total=4)),
    ],
)
def test_from_the_worker(message: FromWorker) -> None:
    assert decode_from_worker(encode(message)) == message


texts = st.text(max_size=20)
numbers = st.integers(0, 2**31)
events = st.one_of(
    st.builds(Queued, position=numbers),
    st.builds(Started, prompt_tokens=numbers, cached_tokens=numbers, seed=st.integers(0, 2**64 - 1)),
    st.builds(Prefilling, done=numbers, total=numbers),
    st.builds(TextDelta, text=texts, token_ids=st.lists(numbers, max_size=3).map(tuple)),
    st.builds(ChoiceFinished, reason=st.sampled_from(FinishReason), stop=st.none() | texts),
    st.builds(Finished, usage=st.builds(Usage, prompt_tokens=numbers), timings=st.just(Timings(queue_ms=0.5))),
    st.builds(Failed, code=texts, message=texts, param=st.none() | texts, retry_after_s=st.none() | st.floats(0, 9)),
)


@given(st.lists(st.tuples(numbers, events), max_size=6).map(tuple))
def test_a_step_keeps_its_events_in_order(happened: tuple[tuple[int, Queued], ...]) -> None:
    step = Step(events=happened, gauge=Gauge(running=1), step_ms=1.5, decoded=2, prefilled=3)
    assert decode_from_worker(encode(step)) == step


def test_credit_is_unlimited_unless_somebody_gates() -> None:
    decoded = decode_to_worker(encode(Submit(number=1, request=REQUEST)))
    assert isinstance(decoded, Submit)
    assert (decoded.credit, decoded.prefill) == (UNLIMITED, UNLIMITED)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", encode(Pong(nonce=1)), b"garbage"])
def test_what_is_no_message_to_the_worker_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_to_worker(data)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_decoded_never_worse(data: bytes) -> None:
    try:
        decode_from_worker(data)
    except msgspec.DecodeError:
        return
