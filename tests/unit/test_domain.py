"""The nouns travel: what is encoded comes back equal, and a newer version's extra fields do no harm."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import (
    AudioPart,
    Continuation,
    FilePart,
    GenerationRequest,
    ImagePart,
    Message,
    ModelId,
    Part,
    ReasoningPart,
    RefusalPart,
    RequestId,
    Role,
    Sampling,
    ServiceClass,
    Stopping,
    TextPart,
    Tool,
    ToolCall,
)

# A lone surrogate cannot be encoded as UTF-8; the API refuses it where a request enters.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.one_of(
    st.builds(TextPart, TEXT),
    st.builds(ImagePart, TEXT),
    st.builds(AudioPart, st.binary(max_size=9), TEXT),
    st.builds(FilePart, st.binary(max_size=9)),
    st.builds(ReasoningPart, TEXT),
    st.builds(RefusalPart, TEXT),
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(Role),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    tool_calls=st.lists(st.builds(ToolCall, id=TEXT, name=TEXT, arguments=TEXT), max_size=2).map(tuple),
)
REQUESTS = st.builds(
    GenerationRequest,
    id=TEXT.map(RequestId),
    model=TEXT.map(ModelId),
    messages=st.lists(MESSAGES, max_size=3).map(tuple),
    prompt=st.one_of(st.none(), TEXT, st.lists(st.integers(0, 2**31), max_size=4).map(tuple)),
    sampling=st.builds(Sampling, seed=st.one_of(st.none(), st.integers(0, 2**64 - 1))),
    stopping=st.builds(Stopping, stop=st.lists(TEXT, max_size=2).map(tuple)),
    tools=st.lists(st.builds(Tool, name=TEXT), max_size=2).map(tuple),
    continuation=st.one_of(st.none(), st.builds(Continuation, text=TEXT)),
    service_class=st.sampled_from(ServiceClass),
)


@given(REQUESTS)
def test_a_request_comes_back_equal(request: GenerationRequest) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=GenerationRequest) == request


@given(PARTS)
def test_a_part_comes_back_as_what_it_was(part: Part) -> None:
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=Part)
    assert back == part
    assert type(back) is type(part)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    newer = {"id": "r", "model": "m", "a_field_of_tomorrow": [1, 2, 3]}
    request = msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=GenerationRequest)
    assert request == GenerationRequest(id=RequestId("r"), model=ModelId("m"))


def test_records_do_not_change() -> None:
    with pytest.raises(AttributeError):
        TextPart("a").text = "b"  # type: ignore[misc]


def test_the_owner_is_served_first_and_leftovers_last() -> None:
    assert min(ServiceClass) is ServiceClass.OWNER
    assert max(ServiceClass) is ServiceClass.LEFTOVER
