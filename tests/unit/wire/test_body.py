"""Bodies: what shapes an answer travels, and what a provider does not know is refused by name."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import CallerId, GenerationRequest, Message, ModelId, RequestId, Role, Sampling, TextPart
from meshnode.errors import InvalidField, ProtocolViolation, UnknownField
from meshnode.wire.body import FROM_REQUEST, Body, body_of, decode_body, encode_body, sha256
from wiring.vectors import BODIES

LOCAL = {"id", "model", "kind", "caller", "service_class", "privacy", "max_cost_uc", "deadline_s", "session"} | {
    "fallbacks",
    "provider",
    "add_special",
}
"""What stays here, or stands in the terms."""


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_kind_of_body_is_read_back(body: Body) -> None:
    assert decode_body(encode_body(body)) == body


@given(
    st.text(st.characters(codec="utf-8")),
    st.floats(allow_nan=False) | st.integers(-1000, 1000),
    st.lists(st.integers(0, 2**31)),
)
def test_any_request_is_read_back(text: str, temperature: float, tokens: list[int]) -> None:
    body = Body(
        messages=(Message(role=Role.USER, parts=(TextPart(text),)),),
        sampling=Sampling(temperature=temperature, seed=2**64 - 1),
        prompt=tuple(tokens),
    )
    data = encode_body(body)
    assert decode_body(data) == body
    assert encode_body(decode_body(data)) == data


def test_a_whole_number_in_the_place_of_a_float_can_be_sent() -> None:
    body = Body(sampling=Sampling(temperature=0, logit_bias=((5, 1),)))
    again = decode_body(encode_body(body))
    assert again == body
    assert isinstance(again.sampling.temperature, float)


def test_only_what_shapes_the_answer_travels() -> None:
    stays = set(GenerationRequest.__struct_fields__) - set(FROM_REQUEST)
    assert stays == LOCAL | {"cache_prompt", "add_special", "prompts", "fallbacks", "provider"}
    request = GenerationRequest(
        id=RequestId("request-id"), model=ModelId("m"), prompt="hello", caller=CallerId("api-key"), session="s3"
    )
    data = encode_body(body_of(request))
    assert decode_body(data) == Body(prompt="hello")
    assert not any(secret in data for secret in (b"request-id", b"api-key", b"s3"))


def test_half_a_surrogate_pair_is_refused_where_it_is_sent() -> None:
    with pytest.raises(InvalidField, match="cannot be sent"):
        encode_body(Body(prompt="\ud800"))


def test_the_commitment_is_sha256() -> None:
    assert sha256(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def written(fields: dict[str, object]) -> bytes:
    """A body as ours are written: with a 16-bit count."""
    return b"\xde" + len(fields).to_bytes(2, "big") + msgspec.msgpack.encode(fields)[1:]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"beam_width": 4}, "beam_width"),
        ({"messages": [{"role": "user", "mood": "good"}]}, "messages[0].mood"),
        (
            {"messages": [{"role": "user", "parts": [{"type": "TextPart", "text": "", "x": 1}]}]},
            "messages[0].parts[0].x",
        ),
        ({"tools": [{"name": "a"}, {"name": "b", "retries": 2}]}, "tools[1].retries"),
        ({"continuation": {"text": "", "kv": b"x"}}, "continuation.kv"),
        ({"tool_choice": {"mode": "auto", "most": 2}}, "tool_choice.most"),
        ({"stopping": {"regex": "x"}}, "stopping.regex"),
        ({"constraint": {"kind": "regex", "flags": "i"}}, "constraint.flags"),
    ],
)
def test_an_unknown_field_is_named(fields: dict[str, object], path: str) -> None:
    with pytest.raises(UnknownField) as caught:
        decode_body(written(fields))
    assert caught.value.param == path
    assert path in caught.value.message


@pytest.mark.parametrize("name", ["\n", "a b", "x" * 65, "\x1b[2J", ""])
def test_a_name_that_is_none_is_not_repeated(name: str) -> None:
    with pytest.raises(UnknownField) as caught:
        decode_body(written({name: 1}))
    assert caught.value.param == "a field without a proper name"


def test_a_word_of_a_later_version_is_refused_where_it_stands() -> None:
    with pytest.raises(InvalidField) as caught:
        decode_body(written({"messages": [{"role": "user", "parts": [{"type": "VideoPart", "url": "SECRET"}]}]}))
    assert caught.value.param == "messages[0].parts[0].type"
    assert "VideoPart" not in str(caught.value)


def test_values_of_the_prompt_are_in_no_refusal() -> None:
    wrong: list[dict[str, object]] = [{"prompt": 1.5, "suffix": "SECRET"}, {"echo": "SECRET"}, {"messages": ["SECRET"]}]
    for fields in wrong:
        with pytest.raises(ProtocolViolation) as caught:
            decode_body(written(fields))
        assert "SECRET" not in str(caught.value)


@given(st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((ProtocolViolation, UnknownField)):
        decode_body(b"\xc1" + data)
    try:
        decode_body(data)
    except (ProtocolViolation, UnknownField, InvalidField):
        return
    assert data.startswith(b"\xde")


@pytest.mark.parametrize("field", ["messages", "beam_width", "inputs"])
def test_garbage_of_the_largest_size_costs_little(field: str) -> None:
    """Eight million empty maps, which would be over half a gigabyte of dictionaries."""
    count = 8_000_000
    data = b"\xde\x00\x01" + msgspec.msgpack.encode(field) + b"\xdd" + count.to_bytes(4, "big") + b"\x80" * count
    tracemalloc.start()
    with pytest.raises((ProtocolViolation, UnknownField)):
        decode_body(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000, "eight bytes a place at most, which is what it announced"
