"""Today's code gives the bytes and the meaning that were recorded, and refuses what was recorded as wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import umsgpack  # type: ignore[import-untyped]

from meshnode import errors
from meshnode.identity import Identity, verify
from meshnode.wire import messages as m
from meshnode.wire import offer as o
from meshnode.wire import receipt as r
from meshnode.wire.session import Role
from wiring import invalid, samples, transcript, vectors
from wiring.plain import named, plain

FOLDER = Path(__file__).parent
VALID = ("infer_v1", "offer_v1", "receipt_v1", "body_v1")


def recorded(name: str) -> Any:
    """One file."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def vectors_of(*names: str) -> list[Any]:
    """The vectors of these files, as parameters."""
    return [pytest.param(each, id=f"{name}-{each['name']}") for name in names for each in recorded(name)["vectors"]]


# --- what is valid --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors_of(*VALID, "later_v2"))
def test_the_bytes_mean_what_was_recorded(vector: dict[str, Any]) -> None:
    assert named(vectors.DECODERS[vector["decoder"]](bytes.fromhex(vector["hex"]))) == vector["means"]


@pytest.mark.parametrize("vector", vectors_of(*VALID, "later_v2"))
def test_another_implementation_of_messagepack_reads_the_same(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    read = umsgpack.unpackb(data)
    assert plain(read) == vector["plain"]
    if vector["decoder"] != "body":  # whose maps have a longer count than they need
        assert umsgpack.packb(read, force_float_precision="double") == data, "it writes the same bytes"


@pytest.mark.parametrize("name", VALID)
def test_todays_code_gives_the_recorded_bytes(name: str) -> None:
    today = {each["name"]: each["hex"] for each in vectors.valid()[name]}
    assert today == {each["name"]: each["hex"] for each in recorded(name)["vectors"]}


@pytest.mark.parametrize("name", [*VALID, "later_v2", "invalid", "transcript_v1"])
def test_the_seeds_are_those_of_the_samples(name: str) -> None:
    assert recorded(name)["seeds"] == {who: seed.hex() for who, seed in samples.SEEDS.items()}


def test_who_has_the_seeds_can_sign_the_same() -> None:
    seeds = {who: bytes.fromhex(seed) for who, seed in recorded("receipt_v1")["seeds"].items()}
    caller = Identity(seeds["caller.peer"], seeds["caller.ledger"])
    provider = Identity(seeds["provider.peer"], seeds["provider.ledger"])
    found = {each["name"]: bytes.fromhex(each["hex"]) for each in recorded("receipt_v1")["vectors"]}
    signed = r.decode_signed(found["usual_signed_by_both"])
    assert signed.body == found["usual"]
    assert signed.sig_c == caller.sign_for_ledger(b"mn/rcpt/1\0" + signed.body)
    assert signed.sig_p == provider.sign_for_ledger(b"mn/rcpt/1\0" + signed.body + signed.sig_c)
    ask = m.decode(
        next(bytes.fromhex(each["hex"]) for each in recorded("infer_v1")["vectors"] if each["name"] == "ask")
    )
    assert isinstance(ask, m.Ask)
    assert ask.signature == caller.sign_for_ledger(b"mn/ask/1\0" + ask.terms)


# --- version 2 ------------------------------------------------------------------------------------


def test_a_later_versions_messages_say_what_they_said_before() -> None:
    before = {each["name"]: each["means"] for each in recorded("infer_v1")["vectors"]}
    later = {each["name"].removesuffix("_v2"): each for each in recorded("later_v2")["vectors"]}
    known = {name: each["means"] for name, each in later.items() if name in before}
    assert len(known) == len(before) - len(samples.EVENTS) - 1
    assert known == {name: before[name] for name in known}
    assert later["hello_of_version_2"]["means"]["version"] == 2


def test_a_later_versions_offer_is_still_signed() -> None:
    later = {each["name"]: bytes.fromhex(each["hex"]) for each in recorded("later_v2")["vectors"]}
    assert vectors.told_offers(later["told_v2"]) == [samples.offer()]
    told = o.decode_message(later["told_v2"])
    assert isinstance(told, o.Told)
    assert told.offers[0].offer.body == later["offer_v2"]
    signature = samples.CALLER.sign_for_ledger(m.terms_payload(later["terms_v2"]))
    assert verify(samples.CALLER.ledger_public, signature, m.terms_payload(later["terms_v2"]))


@pytest.mark.parametrize("vector", vectors_of("receipt_v1", "body_v1"))
def test_nothing_may_be_appended_to_a_receipt_or_a_body(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["decoder"] == "body":
        later = data[:2] + bytes([data[2] + 1]) + data[3:] + msgspec.msgpack.encode("later") + b"\xc0"
        with pytest.raises(errors.UnknownField, match="does not know later"):
            vectors.DECODERS["body"](later)
        return
    with pytest.raises(errors.ProtocolViolation):
        vectors.DECODERS[vector["decoder"]](bytes([data[0] + 1]) + data[1:] + b"\xc0")


# --- what is invalid ------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors_of("invalid"))
def test_what_is_wrong_is_refused_for_the_recorded_reason(vector: dict[str, str]) -> None:
    refusal = getattr(errors, vector["error"])
    with pytest.raises(refusal) as caught:
        vectors.DECODERS[vector["decoder"]](bytes.fromhex(vector["hex"]))
    assert type(caught.value) is refusal
    assert vector["says"] in caught.value.message


def test_the_wrong_ones_are_those_the_recorder_makes() -> None:
    assert recorded("invalid")["vectors"] == invalid.invalid()


# --- a whole session ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 3, 1 << 20])
def test_a_recorded_session_is_replayed(cut: int) -> None:
    play, said = transcript.Play(cut), []
    heard: list[m.Message] = []
    for line in recorded("transcript_v1")["lines"]:
        role = Role(line["end"])
        if "hears" in line:
            heard += play.hear(role, line["hears"])
            continue
        frame = bytes.fromhex(line["says"])
        message = m.decode(frame[4:])
        assert type(message).__name__ == line["name"]
        assert play.say(role, message) == frame
        said.append(message)
    assert sorted(map(repr, heard)) == sorted(map(repr, said))
    assert play.requests == {0}
    assert {type(message) for message in said} >= {m.Refuse, m.Cancel, m.Beat, m.Tick, m.Countersigned, m.Body}


def test_the_session_is_the_one_the_recorder_makes() -> None:
    assert recorded("transcript_v1")["lines"] == transcript.record()
