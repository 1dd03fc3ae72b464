"""Which requests become sequences, with which tokens."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from meshnode.domain import (
    Continuation,
    GenerationRequest,
    ImagePart,
    Message,
    Role,
    Sampling,
    Stopping,
    TextPart,
    Tool,
    ToolChoice,
    ToolMode,
)
from meshnode.engine.admit import Admission, refuse_unsupported
from meshnode.engine.backend import Fim
from meshnode.engine.fake import BOS, EOS, FakeBackend
from meshnode.engine.generation import Generation
from meshnode.engine.pipe import Submit
from meshnode.engine.templates import ChatTemplate
from meshnode.errors import ContextLengthExceeded, InvalidField, UnsupportedParameter
from meshnode.events import Started
from tests.kit.driven import Driven, asking, chatting


def admission(backend: FakeBackend | None = None) -> Admission:
    """Admission to the fake."""
    backend = backend or FakeBackend(n_ctx=100)
    new_year = datetime(2026, 1, 1, tzinfo=UTC)
    template = ChatTemplate(None, bos=backend.bos_text, eos=backend.eos_text, now=lambda: new_year)
    return Admission(backend, template, entropy=lambda: 2**64 + 5)


def admit(request: GenerationRequest) -> Generation:
    return admission().admit(Submit(number=1, request=request), 0.0)


def test_text_is_read_with_its_special_tokens() -> None:
    assert admit(asking("a<|eos|>")).leader.tokens == [BOS, ord("a"), EOS]


def test_tokens_are_taken_as_they_are() -> None:
    assert admit(asking((1, 2, EOS))).leader.tokens == [1, 2, EOS]


def test_empty_text_is_a_beginning() -> None:
    assert admit(asking("")).leader.tokens == [BOS]


def test_seed_is_the_callers_or_drawn_and_has_64_bits() -> None:
    def seed(sampling: Sampling) -> int:
        (started,) = admit(asking("x", sampling=sampling)).admit(0.0)
        assert isinstance(started, Started)
        return started.seed

    assert seed(Sampling(seed=7)) == 7
    assert seed(Sampling(seed=-1)) == 2**64 - 1
    assert seed(Sampling()) == 5


@pytest.mark.parametrize("length", [98, 99, 100, 5000])
def test_context_has_to_hold_the_prompt_and_a_token(length: int) -> None:
    if length + 1 < 100:
        admit(asking("x" * length))
        return
    with pytest.raises(ContextLengthExceeded, match=rf"\b{length + 1}\b.*\b100\b"):
        admit(asking("x" * length))


def test_a_text_that_cannot_fit_is_not_even_tokenised() -> None:
    class Untouched(FakeBackend):
        def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            raise AssertionError("32 MB take seconds, and everybody waits")

    with pytest.raises(ContextLengthExceeded, match=r"at least \d+ tokens.*\b100\b"):
        admission(Untouched(n_ctx=100)).admit(Submit(number=1, request=asking("x" * 2**25)), 0.0)


def test_context_has_to_hold_the_least_answer_wanted() -> None:
    with pytest.raises(ContextLengthExceeded, match="30"):
        admit(asking("x" * 79, stopping=Stopping(min_tokens=30)))


def test_large_max_tokens_is_no_reason_to_refuse() -> None:
    assert admit(asking("x", stopping=Stopping(max_tokens=32_000))).leader.limit == 100


def test_limit_is_what_the_model_was_trained_for() -> None:
    class Wide(FakeBackend):
        @property
        def info(self):  # type: ignore[no-untyped-def]
            return msgspec.structs.replace(super().info, n_ctx_train=50)

    assert admission(Wide(n_ctx=400)).limit == 50


def test_messages_are_named_when_they_are_too_long() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        admit(chatting("x" * 200))
    assert caught.value.param == "messages"


def test_neither_or_both_of_messages_and_prompt_are_refused() -> None:
    both = msgspec.structs.replace(chatting("x"), prompt="y")
    for request in (both, msgspec.structs.replace(both, prompt=None, messages=())):
        with pytest.raises(InvalidField, match="exactly one"):
            refuse_unsupported(request)


def test_tools_need_a_conversation_unless_they_must_not_be_called() -> None:
    tools = (Tool(name="f"),)
    refuse_unsupported(msgspec.structs.replace(chatting("x"), tools=tools))
    plain = msgspec.structs.replace(asking("x"), tools=tools)
    refuse_unsupported(msgspec.structs.replace(plain, tool_choice=ToolChoice(mode=ToolMode.NONE)))
    with pytest.raises(UnsupportedParameter) as caught:
        refuse_unsupported(plain)
    assert caught.value.param == "tools"


def test_refusals_never_quote_the_prompt() -> None:
    message = Message(role=Role.USER, parts=(TextPart(text="secret " * 100),))
    with pytest.raises(ContextLengthExceeded) as caught:
        admit(msgspec.structs.replace(chatting("x"), messages=(message,)))
    assert "secret" not in str(caught.value)


# --- refusals ---------------------------------------------------------------------------------


def test_prompt_too_long_is_refused_with_both_numbers_before_anything_is_computed() -> None:
    backend = FakeBackend(n_ctx=64)
    driven = Driven(backend)
    number = driven.submit(asking("x" * 100))
    driven.run()
    failed = driven.failed(number)
    assert (failed.code, failed.param) == ("context_length_exceeded", "prompt")
    assert "101" in failed.message
    assert "64" in failed.message
    assert backend.batches == []


def test_prompt_with_room_for_one_token_is_served() -> None:
    driven = Driven(FakeBackend(n_ctx=64))
    number = driven.submit(asking("x" * 62))
    driven.run()
    assert driven.finished(number).usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("param", "request_"),
    [
        ("tools", {"tools": (Tool(name="f"),)}),
        ("suffix", {"suffix": "x"}),
        ("echo", {"echo": True}),
        ("continuation", {"continuation": Continuation(text="x")}),
    ],
)
def test_what_is_not_served_is_refused_by_name(param: str, request_: dict[str, object]) -> None:
    driven = Driven(FakeBackend())
    fields = {"id": "r", "model": "m", "prompt": "x", **request_}
    number = driven.submit(GenerationRequest(**fields))  # type: ignore[arg-type]
    driven.run()
    assert (driven.failed(number).code, driven.failed(number).param) == ("unsupported_parameter", param)


def test_pictures_are_refused() -> None:
    driven = Driven(FakeBackend())
    message = Message(role=Role.USER, parts=(ImagePart(url="data:,"),))
    number = driven.submit(GenerationRequest(id="r", model="m", messages=(message,)))  # type: ignore[arg-type]
    driven.run()
    assert driven.failed(number).code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("param", "request_"),
    [
        ("prompt", asking((1, 2, 999_999))),
        ("prompt", asking(())),
        ("logit_bias", asking("x", sampling=Sampling(logit_bias=((-1, 1.0),)))),
        ("stop_token_ids", asking("x", stopping=Stopping(stop_token_ids=(259,)))),
    ],
)
def test_tokens_the_model_does_not_have_are_refused(param: str, request_: GenerationRequest) -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(request_)
    neighbour = driven.submit(asking("fine"))
    driven.run()
    assert (driven.failed(number).code, driven.failed(number).param) == ("invalid_value", param)
    driven.finished(neighbour)


# --- what stands after the answer -------------------------------------------------------------


FIM = Fim(1, 2, 3)


def filling(prompt: str | tuple[int, ...], suffix: str, fim: Fim | None = FIM) -> list[int]:
    """The tokens of a prompt with a text after its answer."""
    request = msgspec.structs.replace(asking(prompt), suffix=suffix)
    return admission(FakeBackend(n_ctx=100, fim=fim)).admit(Submit(number=1, request=request), 0.0).leader.tokens


def test_prefix_and_suffix_stand_between_the_models_own_marks() -> None:
    assert filling("ab", "c") == [BOS, 1, 97, 98, 2, 99, 3]
    assert filling((97, 98), "") == [BOS, 1, 97, 98, 2, 3]
    assert filling("", "<|eos|>") == [BOS, 1, 2, *b"<|eos|>", 3], "a text cannot forge a mark"


def test_a_model_that_was_not_made_to_fill_in_refuses_by_name() -> None:
    with pytest.raises(UnsupportedParameter, match="suffix"):
        filling("a", "b", fim=None)
    request = msgspec.structs.replace(chatting("x"), suffix="y")
    with pytest.raises(UnsupportedParameter, match="messages have none"):
        admission(FakeBackend(fim=Fim(1, 2, 3))).admit(Submit(number=1, request=request), 0.0)


def test_a_suffix_counts_towards_the_context() -> None:
    with pytest.raises(ContextLengthExceeded):
        filling("a" * 50, "b" * 50)


# --- what may be left out of a conversation ---------------------------------------------------


def talk(*texts: str, max_tokens: int | None = None, transforms: tuple[str, ...] = ("middle-out",)) -> Driven:
    """A conversation with a fake of 1,000 tokens of context, user and assistant in turns; its request is number 1."""
    roles = [Role.USER, Role.ASSISTANT]
    messages = tuple(Message(role=roles[at % 2], parts=(TextPart(text),)) for at, text in enumerate(texts))
    request = msgspec.structs.replace(
        chatting(""), messages=messages, transforms=transforms, stopping=Stopping(max_tokens=max_tokens)
    )
    driven = Driven(FakeBackend(n_ctx=1000))
    driven.submit(request)
    return driven.run()


def test_messages_in_the_middle_make_room_for_an_answer_and_are_counted() -> None:
    started = next(event for event in talk(*["x" * 100] * 9).events(1) if isinstance(event, Started))
    assert started.dropped == 4
    assert started.prompt_tokens <= 750, "a quarter is for the answer"
    started = next(event for event in talk(*["x" * 100] * 9, max_tokens=1).events(1) if isinstance(event, Started))
    assert started.dropped == 2


def test_what_fits_stays_whole() -> None:
    started = next(event for event in talk(*["x" * 10] * 9).events(1) if isinstance(event, Started))
    assert started.dropped == 0


def test_a_question_that_does_not_fit_alone_is_refused_with_both_numbers() -> None:
    failed = talk("x", "y", "z" * 2000).failed(1)
    assert failed.code == "context_length_exceeded"
    assert "2051 tokens" in failed.message
    assert "1000" in failed.message


def test_a_very_long_conversation_is_not_rendered_whole() -> None:
    started = next(event for event in talk(*["x" * 100] * 60_001).events(1) if isinstance(event, Started))
    assert started.dropped > 59_000


def test_other_transforms_and_bare_prompts_are_refused_by_name() -> None:
    assert talk("x", transforms=("upside-down",)).failed(1).param == "transforms"
    with pytest.raises(UnsupportedParameter, match="transforms"):
        admit(msgspec.structs.replace(asking("x"), transforms=("middle-out",)))
