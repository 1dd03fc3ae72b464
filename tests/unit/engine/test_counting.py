"""What a prompt is to the model, told without computing anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import GenerationRequest, ImagePart, Message, Role, TextPart, Tool
from meshnode.engine.fake import BOS, EOS, VOCABULARY, FakeBackend
from meshnode.events import Counted, Failed, Finished, Started
from tests.kit.driven import Driven, asking
from tests.kit.requests import counting


def said(text: str) -> tuple[Message, ...]:
    """A conversation of one message."""
    return (Message(role=Role.USER, parts=(TextPart(text),)),)


def counted(request: GenerationRequest, *, n_ctx: int = 4096) -> Counted:
    """What is told of one request on an idle model, whose other events must agree."""
    driven = Driven(FakeBackend(n_ctx))
    number = driven.submit(request)
    started, told, finished = driven.run().events(number)
    assert isinstance(told, Counted)
    assert started == Started(told.tokens)
    assert isinstance(finished, Finished)
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (told.tokens, 0)
    return told


def test_text_is_read_with_the_tokens_the_model_wants_around_it() -> None:
    assert counted(counting("a<|eos|>")) == Counted(3, (BOS, 97, EOS), "a<|eos|>")


def test_or_without_them() -> None:
    assert counted(counting("a<|eos|>", add_special=False)) == Counted(2, (97, EOS), "a<|eos|>")
    assert counted(counting("", add_special=False)) == Counted(0)


def test_token_ids_are_read_back_control_tokens_and_all() -> None:
    assert counted(counting((BOS, 97, 0xC3, 0xA9))).text == "<|bos|>aé"
    assert counted(counting((97, 0xC3))).text == "a�"


def test_the_bytes_of_each_token_where_they_are_asked_for() -> None:
    assert counted(counting("é", add_special=False, echo=True)).pieces == (b"\xc3", b"\xa9")
    assert counted(counting("é", add_special=False)).pieces == ()


def test_messages_are_rendered_and_tools_are_part_of_them() -> None:
    bare = counted(counting(messages=said("hi")))
    assert bare.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert bare.tokens == 1 + len(bare.text)
    tooled = counted(counting(messages=said("hi"), tools=(Tool(name="look_up"),)))
    assert "look_up" in tooled.text
    assert tooled.tokens > bare.tokens


def test_a_prompt_longer_than_the_context_has_a_length_all_the_same() -> None:
    assert counted(counting("x" * 500), n_ctx=100).tokens == 501


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (counting((1, VOCABULARY)), "prompt"),
        (counting(), "messages"),
        (counting("a", messages=said("b")), "messages"),
        (counting(messages=(Message(role=Role.USER, parts=(ImagePart("data:"),)),)), "messages"),
    ],
)
def test_what_is_no_prompt_is_refused_by_name(request_: GenerationRequest, param: str) -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(request_)
    (failed,) = driven.run().events(number)
    assert isinstance(failed, Failed)
    assert failed.param == param


def test_nothing_is_computed_and_what_is_computed_beside_it_stays_the_same() -> None:
    alone, busy = Driven(FakeBackend(n_seq_max=1)), FakeBackend(n_seq_max=1)
    answer = alone.ask(asking("hello"))
    driven = Driven(busy)
    speaking = driven.submit(asking("hello"))
    driven.step()
    computed = len(busy.batches)
    number = driven.submit(counting("x" * 600))
    driven.step()
    assert driven.kinds(number) == ["Started", "Counted", "Finished"], "in the very next step"
    assert len(busy.batches) == computed + 1
    assert driven.run().text(speaking) == answer


@given(st.text())
def test_a_text_comes_back_from_its_tokens(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    ids = counted(counting(text, add_special=False), n_ctx=64).token_ids
    assert counted(counting(ids), n_ctx=64).text == text if ids else text == ""
