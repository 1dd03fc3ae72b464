"""What no honest provider sends is refused, and what engines really send never is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import FinishReason, GenerationRequest, Kind, ModelId, RequestId, Sampling, Stopping
from meshnode.engine.fake import FakeBackend
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from meshnode.errors import PeerError, ProtocolViolation
from meshnode.events import (
    ChoiceFinished,
    Counted,
    EmbeddingResult,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    RefusalDelta,
    RerankResult,
    Resumed,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from meshnode.wire.body import body_of, encode_body
from meshnode.wire.scrutiny import (
    _JUDGES,
    COUNT,
    CUT,
    MOST_CALLS,
    SLACK,
    TEMPLATE_TOKENS,
    Scrutiny,
    printable,
    scrutiny_of,
)
from tests.kit.driven import Driven, asking, chatting
from tests.kit.requests import embedding, ranking
from tests.kit.tinygguf import write_tiny_gguf

STARTED, STOPPED, TEXT = Started(12), ChoiceFinished(FinishReason.STOP), TextDelta("abcd", 0, (1, 2))
NAN, INF = float("nan"), float("inf")


def done(prompt: int = 12, output: int = 2, **usage: int) -> Finished:
    """The end of an answer."""
    return Finished(Usage(prompt, output, **usage))


def look(events: list[Event], choices: int = 1, max_tokens: int | None = None, **more: Any) -> None:
    """Judge all of them."""
    scrutiny = Scrutiny(choices, max_tokens, **more)
    for event in events:
        scrutiny.check(event)


def test_every_kind_of_event_has_its_judge() -> None:
    assert set(_JUDGES) == set(get_args(Event))


HONEST: dict[str, list[Event]] = {
    "an answer": [Queued(2), Queued(1, 0.5), Loading(0.0), Loading(1.0), STARTED, TEXT, STOPPED, done()],
    "a long prompt": [STARTED, Prefilling(0, 12), Prefilling(12, 12), TEXT, Heartbeat(), STOPPED, done()],
    "a prompt computed again": [STARTED, Prefilling(8, 12), Queued(1), Prefilling(4, 12), TEXT, STOPPED, done()],
    "loaded again": [STARTED, Loading(0.5), TEXT, STOPPED, done()],
    "no text": [STARTED, STOPPED, done(output=0)],
    "an end token that is not said": [STARTED, TEXT, STOPPED, done(output=3)],
    "a stop string that is not said": [STARTED, TEXT, STOPPED, done(output=2 + SLACK)],
    "a cached prompt": [Started(12, 12), TEXT, STOPPED, done(cached_tokens=12)],
    "silent tokens": [STARTED, TextDelta("", 0, tuple(range(SLACK))), TEXT, STOPPED, done(output=SLACK + 2)],
    "a tool call": [
        STARTED,
        ReasoningDelta("hm", 0, (1,)),
        ToolCallStarted(0, "call0", "look_up"),
        ToolCallDelta(0, '{"word":'),
        ToolCallStarted(1, "call1", "look_up"),
        ToolCallDelta(0, '"door"}'),
        ChoiceFinished(FinishReason.TOOL_CALLS),
        done(output=90, reasoning_tokens=1),
    ],
    "a tool call with its tokens": [
        STARTED,
        ToolCallStarted(0, "call0", "f", 0, tuple(range(20))),
        ToolCallDelta(0, "{", 0, (1, 2, 3)),
        ToolCallDelta(0, "}", 0, (4,)),
        ToolCallStarted(1, "call1", "g", 0, tuple(range(64))),
        ToolCallDelta(1, "{}", 0, (5,)),
        ChoiceFinished(FinishReason.TOOL_CALLS),
        done(output=89),
    ],
    "a refusal": [STARTED, RefusalDelta("no"), STOPPED, done(output=1)],
    "log probabilities": [STARTED, TextDelta("ab", 0, (5,), (TokenLogprob(5, b"ab", -0.5, ((6, b"c", -9.0),)),))],
    "the largest seed": [Started(12, 0, 2**64 - 1), STOPPED, done()],
    "a failure at once": [Failed("overloaded", "full", retry_after_s=0.0)],
    "a failure later": [STARTED, TEXT, Failed("worker_died", "gone")],
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_answer_passes(name: str) -> None:
    look(HONEST[name])


def test_choices_come_as_they_like() -> None:
    ends: list[Event] = [ChoiceFinished(FinishReason.LENGTH, 1), TextDelta("b", 0, (2,)), STOPPED, done(output=2)]
    look([STARTED, TextDelta("a", 1, (1,)), *ends], choices=2, max_tokens=1)


DISHONEST: dict[str, tuple[list[Event], str]] = {
    "a choice out of range": ([STARTED, TextDelta("x", 1)], "choice 1 of 1"),
    "a choice below zero": ([STARTED, ReasoningDelta("x", -1)], "choice -1"),
    "an end of a choice out of range": ([STARTED, ChoiceFinished(FinishReason.STOP, 7)], "choice 7"),
    "a tool call of a choice out of range": ([STARTED, ToolCallStarted(0, "", "", 3)], "choice 3"),
    "a place below zero": ([Queued(-1)], "a place in the queue is -1"),
    "a place out of sight": ([Queued(COUNT)], "a place in the queue"),
    "an estimate that is none": ([Queued(1, NAN)], "an estimate"),
    "an endless estimate": ([Queued(1, INF)], "an estimate"),
    "an estimate in the past": ([Queued(1, -1.0)], "an estimate"),
    "loaded beyond all": ([Loading(1.5)], "loaded by"),
    "loaded by no number": ([Loading(NAN)], "loaded by"),
    "a prompt below zero": ([Started(-1)], "a prompt's length is -1"),
    "a debt of messages": ([Started(1, dropped=-1)], "a number of messages is -1"),
    "a prompt out of sight": ([Started(COUNT)], "a prompt's length"),
    "more cached than there is": ([Started(12, 13)], "13 of 12"),
    "cached below zero": ([Started(12, -1)], "-1 of 12"),
    "a seed below zero": ([Started(12, 0, -1)], "a seed"),
    "started twice": ([STARTED, STARTED], "started twice"),
    "prefilling first": ([Prefilling(1, 12)], "before its request was started"),
    "prefilling another prompt": ([STARTED, Prefilling(1, 13)], "of another prompt"),
    "prefilling more than all": ([STARTED, Prefilling(13, 12)], "13 of 12"),
    "prefilling below zero": ([STARTED, Prefilling(-1, 12)], "-1 of 12"),
    "text first": ([TEXT], "not started"),
    "a refusal first": ([RefusalDelta("x")], "not started"),
    "a tool call first": ([ToolCallStarted(0, "", "")], "not started"),
    "an end of a choice first": ([STOPPED], "not started"),
    "a token below zero": ([STARTED, TextDelta("x", 0, (-1,))], "a token id is -1"),
    "a token out of range": ([STARTED, ReasoningDelta("x", 0, (2**31,))], "a token id is 2147483648"),
    "a log probability that is none": ([STARTED, TextDelta("x", logprobs=(TokenLogprob(1, b"", NAN),))], "probability"),
    "an alternative that is none": (
        [STARTED, TextDelta("x", logprobs=(TokenLogprob(1, b"", 0.0, ((1, b"", -INF),)),))],
        "probability",
    ),
    "an alternative out of range": (
        [STARTED, TextDelta("x", logprobs=(TokenLogprob(1, b"", 0.0, ((-5, b"", 0.0),)),))],
        "a token id",
    ),
    "text after the choice's end": ([STARTED, STOPPED, TEXT], "after its end"),
    "a choice that ends twice": ([STARTED, STOPPED, STOPPED], "after its end"),
    "a tool call twice": ([STARTED, ToolCallStarted(0, "", ""), ToolCallStarted(0, "", "")], "began twice"),
    "a tool call below zero": ([STARTED, ToolCallStarted(-1, "", "")], "began twice, or"),
    "too many tool calls": ([STARTED, ToolCallStarted(MOST_CALLS, "", "")], "too many"),
    "a tool with an endless name": ([STARTED, ToolCallStarted(0, "", "x" * 501)], "endless"),
    "arguments of no call": ([STARTED, ToolCallDelta(0, "{}")], "has not begun"),
    "a token below zero before a tool call": ([STARTED, ToolCallStarted(0, "a", "b", 0, (-1,))], "a token id is -1"),
    "a token out of range in arguments": (
        [STARTED, ToolCallStarted(0, "a", "b"), ToolCallDelta(0, "{}", 0, (2**31,))],
        "a token id is 2147483648",
    ),
    "fewer tokens than a call took": (
        [STARTED, ToolCallStarted(0, "a", "b", 0, (1, 2)), ToolCallDelta(0, "{}", 0, (3,)), STOPPED, done(output=2)],
        "2 tokens were used and 3",
    ),
    "a call padded with tokens": ([STARTED, ToolCallStarted(0, "a", "b", 0, tuple(range(90)))], "90 tokens of 1 bytes"),
    "arguments padded with tokens": (
        [STARTED, ToolCallStarted(0, "a", "b"), ToolCallDelta(0, "{}", 0, tuple(range(92)))],
        "92 tokens of 3 bytes",
    ),
    "resumed": ([STARTED, Resumed(1)], "resumed"),
    "finished first": ([done()], "before all its choices"),
    "finished before its choice": ([STARTED, TEXT, done()], "before all its choices"),
    "another prompt in the end": ([STARTED, TEXT, STOPPED, done(13)], "13 prompt tokens"),
    "more cached in the end": ([STARTED, TEXT, STOPPED, done(cached_tokens=13)], "prompt tokens were used"),
    "fewer tokens than were streamed": ([STARTED, TEXT, STOPPED, done(output=1)], "1 tokens were used and 2"),
    "more tokens than were streamed": ([STARTED, TEXT, STOPPED, done(output=2 + SLACK + 2)], "20 tokens were used"),
    "more thought than said": ([STARTED, TEXT, STOPPED, done(reasoning_tokens=3)], "tokens were used"),
    "counts below zero": ([STARTED, TEXT, STOPPED, done(cached_tokens=-1)], "a token count is -1"),
    "counts out of sight": ([STARTED, TEXT, STOPPED, done(output=COUNT)], "a token count"),
    "times that are none": ([STARTED, STOPPED, Finished(Usage(12), Timings(0.0, NAN))], "a time"),
    "a wait that is none": ([Failed("x", "y", retry_after_s=INF)], "a time to wait"),
    "a vector in an answer": ([STARTED, EmbeddingResult(0, bytes(4))], "a result"),
    "padding": ([STARTED, *[TextDelta("")] * 25], "25 tokens of 0 bytes"),
    "padding with tokens": ([STARTED, TextDelta("four", 0, tuple(range(29)))], "29 tokens of 4 bytes"),
    "refusals without end": ([STARTED, *[RefusalDelta("")] * 25], "25 tokens of 0 bytes"),
    "something after the end": ([STARTED, STOPPED, done(), Heartbeat()], "after the last"),
    "something after a failure": ([Failed("x", "y"), Heartbeat()], "after the last"),
}


@pytest.mark.parametrize("name", DISHONEST)
def test_a_dishonest_answer_is_found_at_its_last_event(name: str) -> None:
    events, says = DISHONEST[name]
    scrutiny = Scrutiny(1, None)
    for event in events[:-1]:
        scrutiny.check(event)
    with pytest.raises(PeerError, match=says) as found:
        scrutiny.check(events[-1])
    padded = "padd" in name or name == "refusals without end"
    assert isinstance(found.value, ProtocolViolation) is not padded  # a caller can bring an honest model to pad


@pytest.mark.parametrize("choices", [1, 3])
def test_no_more_tokens_are_taken_than_were_asked_for(choices: int) -> None:
    scrutiny = Scrutiny(choices, 10)
    scrutiny.check(STARTED)
    for number in range(10 * choices + choices + SLACK):
        scrutiny.check(TextDelta("word", number % choices, (number,)))
    with pytest.raises(ProtocolViolation, match="tokens of an answer that may have"):
        scrutiny.check(TextDelta("word", 0, (0,)))


def test_a_cheat_that_pads_is_cut_within_256_tokens() -> None:
    """One word for every eight tokens, from the first on (threat 30)."""
    scrutiny, tokens = Scrutiny(1, None), 0
    scrutiny.check(STARTED)
    with suppress(PeerError):
        while tokens < 256:
            scrutiny.check(TextDelta("word", 0, tuple(range(8))))
            tokens += 8
    assert tokens < 256


def test_what_a_stop_string_holds_back_may_be_silent() -> None:
    silent: list[Event] = [STARTED, *[TextDelta("", 0, tuple(range(16)))] * 6]
    look(silent, withheld=100)
    with pytest.raises(PeerError, match="bytes of text"):
        look(silent)
    request = asking("x", stopping=Stopping(stop=("é" * 50, "x")))
    scrutiny = scrutiny_of(request, 100)
    for event in silent:
        scrutiny.check(event)


def test_a_prompt_has_no_more_tokens_than_its_request_has_bytes() -> None:
    scrutiny_of(asking("x"), 100).check(Started(100 + TEMPLATE_TOKENS))
    with pytest.raises(ProtocolViolation, match=f"{101 + TEMPLATE_TOKENS} prompt tokens"):
        scrutiny_of(asking("x"), 100).check(Started(101 + TEMPLATE_TOKENS))


def test_text_has_no_more_characters_than_its_tokens_can_have() -> None:
    look([STARTED, TextDelta("x" * 4352, 0, (1,)), STOPPED, done(output=1)])
    with pytest.raises(ProtocolViolation, match="4353 characters"):
        look([STARTED, TextDelta("x" * 4353, 0, (1,))])


def test_results_are_judged_as_well() -> None:
    one = b"\x00\x00\x80\x3f"
    both: list[Event] = [STARTED, EmbeddingResult(1, one), EmbeddingResult(0, one)]
    look([*both, done(output=0)], choices=2, kind=Kind.EMBED)
    look([STARTED, RerankResult(0, -1.5), done(output=0)], kind=Kind.RERANK)
    look([STARTED, done(output=0)], kind=Kind.COUNT)
    bad: list[tuple[Kind, list[Event]]] = [
        (Kind.EMBED, [STARTED, EmbeddingResult(0, b"\x00\x00\xc0\x7f")]),
        (Kind.EMBED, [STARTED, EmbeddingResult(0, b"\x00\x00\x80")]),
        (Kind.EMBED, [STARTED, EmbeddingResult(0, b"")]),
        (Kind.EMBED, [STARTED, EmbeddingResult(2, one)]),
        (Kind.EMBED, [*both, EmbeddingResult(0, one)]),
        (Kind.EMBED, [STARTED, RerankResult(0, 1.0)]),
        (Kind.EMBED, [STARTED, TEXT]),
        (Kind.EMBED, [EmbeddingResult(0, one)]),
        (Kind.EMBED, [STARTED, EmbeddingResult(0, one), done(output=0)]),
        (Kind.RERANK, [STARTED, RerankResult(0, NAN)]),
        (Kind.COUNT, [STARTED, TEXT]),
        (Kind.COUNT, [STARTED, Counted(3)]),
    ]
    for kind, events in bad:
        with pytest.raises(ProtocolViolation):
            look(events, choices=2, kind=kind)


# --- what people are shown ------------------------------------------------------------------------


def test_a_peers_words_are_cut_and_printable() -> None:
    wild = Failed("c" * 99, "\x1b[2J\n" + "m" * 999, "\u202eh" * 999, "p\x00" * 99, 1.0)
    tame = Scrutiny(1, None).clean(wild)
    assert tame == Failed("c" * 64, " [2J " + "m" * 495, " h" * 250, "p " * 32, 1.0)
    stop = Scrutiny(1, None).clean(ChoiceFinished(FinishReason.STOP, 0, "\n\n\x1b" + "x" * 999))
    assert stop == ChoiceFinished(FinishReason.STOP, 0, "\n\n " + "x" * 497)


@pytest.mark.parametrize("event", [STARTED, TEXT, STOPPED, done(), Failed("x", "y"), TextDelta("\x1b[0m")])
def test_what_is_fit_to_be_shown_is_left_alone(event: Event) -> None:
    assert Scrutiny(1, None).clean(event) == event


@given(st.text())
def test_printable_is_what_it_says(text: str) -> None:
    shown = printable(text)
    assert len(shown) == min(len(text), CUT)
    assert shown.isprintable()


# --- what engines really send -----------------------------------------------------------------------

REQUESTS: dict[str, GenerationRequest] = {
    "short": asking("hello"),
    "chat": chatting("Grüße 👋"),
    "long prompt": asking("never " * 300, stopping=Stopping(max_tokens=5)),
    "nothing": asking("hello", stopping=Stopping(max_tokens=0)),
    "one": asking("hello", stopping=Stopping(max_tokens=1)),
    "until the context is full": asking("hello", stopping=Stopping(ignore_eos=True)),
    "stop strings": asking("once", stopping=Stopping(max_tokens=200, stop=("e", "xyz" * 80), ignore_eos=True)),
    "warm": asking("x", sampling=Sampling(temperature=1.5, seed=3), stopping=Stopping(max_tokens=300, ignore_eos=True)),
    "refused": GenerationRequest(id=RequestId("r"), model=ModelId("m"), prompt="x" * 9000),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_engines_answer_passes(name: str) -> None:
    assert_passes(Driven(FakeBackend(n_ctx=2048, n_seq_max=4)), REQUESTS[name])


@given(
    st.text(max_size=40),
    st.lists(st.text(min_size=1, max_size=4), max_size=3),
    st.integers(0, 2**32),
    st.integers(0, 64),
)
def test_any_answer_of_an_engine_passes(prompt: str, stop: list[str], seed: int, most: int) -> None:
    stopping = Stopping(max_tokens=most, stop=tuple(stop), ignore_eos=bool(seed % 2))
    request = asking(prompt, sampling=Sampling(temperature=1.2, seed=seed), stopping=stopping)
    assert_passes(Driven(FakeBackend(n_ctx=512, n_seq_max=2)), request)


def test_a_real_model_of_random_weights_passes(tmp_path: Path) -> None:
    """It says control tokens and bytes that are no UTF-8, more often than any trained one."""
    path = str(write_tiny_gguf(tmp_path / "tiny.gguf", ctx=2048))
    load = Load(path=path, n_ctx=2048, n_seq_max=2, threads=1, threads_batch=1, gpu_layers=0, measure=False)
    backend = open_llama(load)
    try:
        for seed in range(20):
            sampling = Sampling(temperature=1.0 + seed % 3, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
            stopping = Stopping(max_tokens=200, ignore_eos=True, stop=("zz", "\n")[: seed % 3])
            assert_passes(Driven(backend), asking(f"once upon a time {seed}", sampling=sampling, stopping=stopping))
    finally:
        backend.close()


def assert_passes(engine: Driven, request: GenerationRequest) -> None:
    """Its answer to a request is honest, and is shown as it is."""
    scrutiny = scrutiny_of(request, len(encode_body(body_of(request))))
    number = engine.submit(request)
    events = engine.run().events(number)
    for event in events:
        scrutiny.check(event)
        assert scrutiny.clean(event) == event
    assert isinstance(events[-1], Finished | Failed)


def test_vectors_are_all_as_long_as_was_asked_for_or_as_the_first() -> None:
    request = embedding("a", "b", dimensions=2)
    two, three = bytes(8), bytes(12)
    scrutiny = scrutiny_of(request, 100)
    for event in (STARTED, EmbeddingResult(0, two), EmbeddingResult(1, two), done(output=0)):
        scrutiny.check(event)
    free: list[Event] = [STARTED, EmbeddingResult(0, three), EmbeddingResult(1, two)]
    with pytest.raises(ProtocolViolation, match="2 numbers, not 3"):
        look(free, choices=2, kind=Kind.EMBED)
    with pytest.raises(ProtocolViolation, match="3 numbers, not 2"):
        look(free[:2], choices=2, kind=Kind.EMBED, dimensions=2)
    with pytest.raises(ProtocolViolation, match="65537 numbers"):
        look([STARTED, EmbeddingResult(0, bytes(4 * 65_537))], kind=Kind.EMBED)


def test_short_inputs_may_have_more_special_tokens_than_bytes() -> None:
    request = embedding(*["a"] * 2048)
    scrutiny_of(request, 2 * 2048).check(Started(3 * 2048))


def test_a_ranking_has_one_score_for_each_document_and_reads_its_question_with_each() -> None:
    request = ranking("q" * 100, *["a"] * 10)
    scrutiny = scrutiny_of(request, 200)
    scrutiny.check(Started(10 * (100 + 10)))
    for place in range(10):
        scrutiny.check(RerankResult(place, 0.5))
    scrutiny.check(Finished(Usage(prompt_tokens=10 * (100 + 10))))
    with pytest.raises(ProtocolViolation, match="so many bytes"):
        scrutiny_of(request, 200).check(Started(10 * (100 + 300) + 5000))
