"""What strangers may ask: judged by terms, rebuilt from listed fields in their ranges."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import (
    Constraint,
    ConstraintKind,
    FilePart,
    GenerationRequest,
    ImagePart,
    Kind,
    Message,
    ModelId,
    PeerId,
    RequestId,
    Role,
    Sampling,
    ServiceClass,
    Stopping,
    TextPart,
    Tool,
)
from meshnode.errors import (
    BodyTooLarge,
    CapabilityUnavailable,
    Conflict,
    Draining,
    InvalidField,
    MalformedBody,
    MeshnodeError,
    ModelNotFound,
    Overloaded,
    ProtocolViolation,
    RateLimited,
    UnsupportedParameter,
)
from meshnode.mesh.admission import LONGEST_DEADLINE_S, RANGES, Limits, Places, judge, rebuild, whole
from meshnode.wire.body import Body, body_of, encode_body
from meshnode.wire.fields import Prices
from tests.kit.offers import PRICES, changed, model_offer, offer, terms
from tests.kit.peers import ALICE, BOB
from tests.kit.requests import embedding, ranking

REQUEST = GenerationRequest(
    id=RequestId("r1"),
    model=ModelId("a"),
    messages=(Message(role=Role.USER, parts=(TextPart("hello"),)),),
    stopping=Stopping(max_tokens=8),
)
BODY = body_of(REQUEST)
TERMS = terms(BOB, REQUEST)
OFFER = offer(BOB, model_offer("a"))


def served(body: Body = BODY, **changes: object) -> GenerationRequest:
    """The request that Bob's engine would get from Alice."""
    asked = msgspec.structs.replace(TERMS, **changes)
    return rebuild(body, asked, peer=ALICE.peer_id, service_class=ServiceClass.NEWCOMER)


def test_an_honest_ask_is_for_the_model_it_names() -> None:
    assert judge(TERMS, OFFER) == OFFER.models[0]


REFUSED: list[tuple[dict[str, object], type[MeshnodeError], str]] = [
    ({"network": b"elsewher"}, ProtocolViolation, "another network"),
    ({"provider": ALICE.peer_id}, ProtocolViolation, "another network or peer"),
    ({"model": "b"}, ModelNotFound, "'b' is not served"),
    ({"privacy": "confidential"}, CapabilityUnavailable, "privacy class confidential is not served"),
    ({"privacy": "none at all"}, CapabilityUnavailable, "unknown privacy class"),
    ({"kind": "embed"}, CapabilityUnavailable, "serves generate here, not embed"),
    ({"features": ("tools",)}, CapabilityUnavailable, "has no tools"),
    ({"body_bytes": (8 << 20) + 1}, BodyTooLarge, "8388609 bytes"),
    ({"prices": Prices(10, 2, 79, 2000)}, Conflict, "below those offered"),
    ({"max_cost_uc": 1999}, Conflict, "at least 2000"),
    ({"deadline_ms": 0}, InvalidField, "deadline"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), REFUSED, ids=[next(iter(row[0])) for row in REFUSED])
def test_an_ask_is_refused_by_name(changes: dict[str, object], kind: type[MeshnodeError], said: str) -> None:
    with pytest.raises(kind, match=said):
        judge(msgspec.structs.replace(TERMS, **changes), OFFER)


def test_a_node_that_serves_nothing_says_so() -> None:
    with pytest.raises(Draining):
        judge(TERMS, offer(BOB))


def test_who_pays_more_than_is_asked_is_served() -> None:
    assert judge(msgspec.structs.replace(TERMS, prices=Prices(11, 2, 80, 9000)), OFFER)


def test_the_rebuilt_request_holds_what_was_sent_and_nothing_the_peer_may_not_choose() -> None:
    request = served()
    assert request.messages == REQUEST.messages
    assert request.stopping == REQUEST.stopping
    assert (request.caller, request.service_class) == (f"peer:{ALICE.peer_id}", ServiceClass.NEWCOMER)
    assert request.deadline_s == 600
    assert request.session is None
    assert request.cache_prompt is True


def test_a_deadline_is_never_longer_than_the_longest() -> None:
    assert served(deadline_ms=10**15).deadline_s == LONGEST_DEADLINE_S


@pytest.mark.parametrize("path", [path for path in RANGES if path != "dimensions"])
def test_every_number_has_a_range(path: str) -> None:
    low, high = RANGES[path]
    whole_number = isinstance(getattr(Sampling(), path.partition(".")[2], 0), int | None)
    for value in (low, high):
        if path != "stopping.max_tokens" or value == 1:
            served(changed(BODY, path, int(value) if whole_number else value))
    for value in (low - 1, high * 2 + 1, math.nan, math.inf):
        with pytest.raises(InvalidField, match=path.rpartition(".")[2]):
            served(changed(BODY, path, value))


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("stopping.stop", ("x",) * 17, InvalidField),
        ("stopping.stop", ("",), InvalidField),
        ("stopping.stop", ("x" * 257,), InvalidField),
        ("stopping.stop_token_ids", (1,) * 257, InvalidField),
        ("stopping.stop_token_ids", (-1,), InvalidField),
        ("sampling.logit_bias", ((1, 101.0),), InvalidField),
        ("sampling.logit_bias", ((1, math.nan),), InvalidField),
        ("sampling.logit_bias", ((2**31, 1.0),), InvalidField),
        ("sampling.logit_bias", ((1, 1.0),) * 1025, InvalidField),
        ("sampling.dry_sequence_breakers", ("x",) * 17, InvalidField),
        ("sampling.bad_words", ("x",) * 65, InvalidField),
        ("sampling.bad_words", ("",), InvalidField),
        ("sampling.bad_words", ("x" * 257,), InvalidField),
        ("prompt", (2**40,), InvalidField),
        ("stopping.max_tokens", 9, InvalidField),
        ("stopping.max_tokens", None, InvalidField),
        ("template_kwargs", "[]", MalformedBody),
        ("template_kwargs", "{" * 10_000, MalformedBody),
        ("template_kwargs", '{"a":"' + "x" * (16 << 10) + '"}', InvalidField),
        ("reasoning_effort", "x" * 33, InvalidField),
        ("tools", (Tool(name="f"),) * 129, InvalidField),
        ("tools", (Tool(name="f", parameters="x" * (2**20 + 1)),), InvalidField),
        ("constraint", Constraint(kind=ConstraintKind.REGEX, source="x" * (2**18 + 1)), InvalidField),
        ("inputs", ("text",), InvalidField),
        ("documents", ("text",), InvalidField),
        ("query", "text", InvalidField),
        ("dimensions", 3, InvalidField),
        ("transforms", ("middle-out",) * 5, InvalidField),
        ("transforms", ("x" * 33,), InvalidField),
    ],
)
def test_what_is_out_of_bounds_is_refused(path: str, value: object, kind: type[MeshnodeError]) -> None:
    with pytest.raises(kind):
        served(changed(BODY, path, value))


@pytest.mark.parametrize(
    "part", [ImagePart(url="http://127.0.0.1/secret"), FilePart(data=b"x", filename="/etc/passwd")]
)
def test_no_url_and_no_file_passes(part: ImagePart | FilePart) -> None:
    with pytest.raises(UnsupportedParameter):
        served(changed(BODY, "messages", (Message(role=Role.USER, parts=(part,)),)))


def test_the_terms_bound_the_answer() -> None:
    with pytest.raises(InvalidField, match="leave out its bound"):
        served(max_tokens=0)


def test_a_body_is_the_one_that_was_asked_for() -> None:
    data = encode_body(BODY)
    assert whole(data, TERMS) == data
    for other in (data[:-1], data[:-1] + b"\0", b""):
        with pytest.raises(ProtocolViolation):
            whole(other, TERMS)


def test_places_are_shared_out_and_given_back() -> None:
    places = Places(Limits(per_peer=2, requests=3))
    for _ in range(2):
        places.take(ALICE.peer_id)
    with pytest.raises(RateLimited) as refused:
        places.take(ALICE.peer_id)
    assert refused.value.retry_after_s is not None
    places.take(BOB.peer_id)
    with pytest.raises(Overloaded):
        places.take(PeerId("carol"))
    places.give_back(ALICE.peer_id)
    places.take(PeerId("carol"))
    assert places.held == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_places_never_exceed_their_limits(steps: list[tuple[str, bool]]) -> None:
    limits = Limits(per_peer=3, requests=5)
    places, held = Places(limits), {"a": 0, "b": 0, "c": 0}
    for peer, takes in steps:
        if takes:
            try:
                places.take(PeerId(peer))
            except (RateLimited, Overloaded):
                assert held[peer] == limits.per_peer or sum(held.values()) == limits.requests
                continue
            held[peer] += 1
        elif held[peer]:
            places.give_back(PeerId(peer))
            held[peer] -= 1
        assert max(held.values()) <= limits.per_peer
        assert places.held == sum(held.values()) <= limits.requests


def test_the_prices_of_the_kit_are_prices() -> None:
    assert PRICES.output_uc > PRICES.input_uc > PRICES.cached_uc


# --- embeddings -----------------------------------------------------------------------------------


def embedded(**changes: object) -> GenerationRequest:
    """The request that Bob's engine would get for an embedding with these fields."""
    return served(msgspec.structs.replace(body_of(embedding("text", (1, 2))), **changes), kind="embed", max_tokens=0)


def test_an_embedding_is_rebuilt_with_its_inputs() -> None:
    request = embedded(dimensions=64)
    assert (request.kind, request.inputs, request.dimensions) == (Kind.EMBED, ("text", (1, 2)), 64)
    model = model_offer("a", kinds=("generate", "embed"))
    asked = msgspec.structs.replace(TERMS, kind="embed")
    assert judge(asked, offer(BOB, model)) == model


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": ()},
        {"inputs": ("",)},
        {"inputs": ("x", ())},
        {"inputs": ("x",) * 2049},
        {"inputs": ((1, -1),)},
        {"inputs": ((2**31,),)},
        {"prompt": "x"},
        {"messages": REQUEST.messages},
        {"dimensions": 0},
        {"dimensions": 65_537},
    ],
    ids=str,
)
def test_an_embedding_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidField):
        embedded(**changes)


# --- rankings -------------------------------------------------------------------------------------


def ranked(**changes: object) -> GenerationRequest:
    """The request that Bob's engine would get for a ranking with these fields."""
    return served(msgspec.structs.replace(body_of(ranking("q", "a", "b")), **changes), kind="rerank", max_tokens=0)


def test_a_ranking_is_rebuilt_with_its_documents() -> None:
    request = ranked()
    assert (request.kind, request.query, request.documents) == (Kind.RERANK, "q", ("a", "b"))


@pytest.mark.parametrize(
    "changes",
    [
        {"query": ""},
        {"documents": ()},
        {"documents": ("a", "")},
        {"documents": ("x",) * 2049},
        {"inputs": ("x",)},
        {"prompt": "x"},
        {"messages": REQUEST.messages},
        {"dimensions": 2},
    ],
    ids=str,
)
def test_a_ranking_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidField):
        ranked(**changes)
