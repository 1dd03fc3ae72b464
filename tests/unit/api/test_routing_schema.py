"""The fields of the route: what each becomes, and what is said of those that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.chat_schema import parse_chat
from meshnode.api.completions_schema import parse_completion
from meshnode.api.embeddings_schema import parse_embedding
from meshnode.api.messages.schema import parse_messages
from meshnode.api.responses.parse import parse_response
from meshnode.api.routing_schema import MOST_MODELS, preference
from meshnode.api.schema import NO_EFFECT, Ask, Asker
from meshnode.domain import CallerId, GenerationRequest, ModelId, Preference, Privacy, RequestId, Sort
from meshnode.errors import InvalidField, MeshnodeError, RequestError, UnknownField, UnsupportedParameter
from meshnode.wire.body import body_of, encode_body
from tests.kit.requests import prompt

ASKER = Asker(RequestId("r1"), CallerId("owner"))
PEER = "12D3KooWbobbobbob"
BODIES: dict[str, tuple[Callable[[bytes, Asker], Ask], dict[str, Any]]] = {
    "chat": (parse_chat, {"messages": [{"role": "user", "content": "hi"}]}),
    "completions": (parse_completion, {"prompt": "hi"}),
    "embeddings": (parse_embedding, {"input": "hi"}),
    "responses": (parse_response, {"input": "hi"}),
    "messages": (parse_messages, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
}


def parsed(dialect: str = "chat", **fields: Any) -> GenerationRequest:
    """A request of a dialect with further fields."""
    parse, body = BODIES[dialect]
    return parse(msgspec.json.encode(body | fields), ASKER).request


@pytest.mark.parametrize("dialect", BODIES)
def test_every_dialect_takes_the_fields_of_the_route(dialect: str) -> None:
    request = parsed(
        dialect,
        model="fast",
        models=["a", "b:q4_0"],
        privacy="private-gateway",
        max_cost=5000,
        provider={"order": [PEER, "local"], "allow_fallbacks": False, "sort": "price"},
    )
    assert (request.model, request.fallbacks) == ("fast", ("a", "b:q4_0"))
    assert (request.privacy, request.max_cost_uc) == (Privacy.PRIVATE_GATEWAY, 5000)
    assert request.provider == Preference(order=(PEER, "local"), fallbacks=False, sort=Sort.PRICE)


@pytest.mark.parametrize("dialect", BODIES)
def test_without_them_a_request_is_a_plain_one(dialect: str) -> None:
    for nothing in ({}, {"model": None, "models": None, "provider": None, "privacy": None, "max_cost": None}):
        request = parsed(dialect, **nothing)
        assert (request.model, request.fallbacks, request.provider) == ("", (), Preference())
        assert (request.privacy, request.max_cost_uc) == (Privacy.STANDARD, None)


def test_models_may_stand_alone_and_have_two_names_of_which_one_is_used() -> None:
    assert (parsed(models=["a", "b"]).model, parsed(models=["a", "b"]).fallbacks) == ("", ("a", "b"))
    assert parsed(fallback_models=["a"]) == parsed(models=["a"])
    assert parsed(models=["a"], fallback_models=[]).fallbacks == ("a",)
    with pytest.raises(InvalidField, match="one list") as caught:
        parsed(models=["a"], fallback_models=["b"])
    assert caught.value.param == "fallback_models"


def test_every_wish_of_a_provider_is_kept() -> None:
    sent = {
        "only": ["local"],
        "ignore": [PEER],
        "quantizations": ["int4", "q8_0"],
        "sort": "latency",
        "max_price": {"prompt": 0.5, "completion": 130, "request": 0},
        "data_collection": "deny",
        "require_parameters": True,
    }
    assert preference(sent) == Preference(
        only=("local",),
        ignore=(PEER,),
        quantisations=("int4", "q8_0"),
        sort=Sort.LATENCY,
        most_prompt_uc=0.5,
        most_output_uc=130,
        most_request_uc=0,
        here_only=True,
    )
    assert preference({"zdr": True}) == Preference(here_only=True)
    assert preference({"data_collection": "allow", "zdr": False, "allow_fallbacks": None}) == Preference()


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"models": ["a"] * (MOST_MODELS + 1)}, InvalidField, "models"),
        ({"models": [""]}, InvalidField, "models[0]"),
        ({"models": "a"}, InvalidField, "models"),
        ({"privacy": "secret"}, InvalidField, "privacy"),
        ({"max_cost": -1}, InvalidField, "max_cost"),
        ({"max_cost": 0.5}, InvalidField, "max_cost"),
        ({"provider": []}, InvalidField, "provider"),
        ({"provider": {"order": "local"}}, InvalidField, "provider.order"),
        ({"provider": {"order": ["12D3"]}}, InvalidField, "provider.order[0]"),
        ({"provider": {"ignore": ["local", "bobby"]}}, InvalidField, "provider.ignore[1]"),
        ({"provider": {"sort": "time"}}, InvalidField, "provider.sort"),
        ({"provider": {"sort": {"by": "price"}}}, InvalidField, "provider.sort"),
        ({"provider": {"orders": []}}, UnknownField, "provider.orders"),
        ({"provider": {"max_price": {"promt": 1}}}, UnknownField, "provider.max_price.promt"),
        ({"provider": {"max_price": {"prompt": -1}}}, InvalidField, "provider.max_price.prompt"),
        ({"provider": {"max_price": {"image": 1}}}, UnsupportedParameter, "provider.max_price.image"),
        ({"provider": {"preferred_min_throughput": 5}}, UnsupportedParameter, "provider.preferred_min_throughput"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[RequestError], param: str) -> None:
    with pytest.raises(kind) as caught:
        parsed(**fields)
    assert caught.value.param == param


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["order", "only", "ignore", "quantizations", "sort", "max_price", "zdr", "data_collection", "x"]
)


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_any_provider_is_understood_or_refused_by_name(sent: dict[str, Any]) -> None:
    refusal: MeshnodeError | None = None
    try:
        preference(sent)
    except MeshnodeError as error:
        refusal = error
    assert refusal is None or isinstance(refusal, RequestError)
    assert refusal is None or (refusal.param or "").startswith("provider")


def test_what_chose_the_route_does_not_travel() -> None:
    plain = prompt("hello")
    routed = msgspec.structs.replace(
        plain, fallbacks=(ModelId("other"),), provider=Preference(only=(PEER,)), max_cost_uc=7, model=ModelId("auto")
    )
    assert encode_body(body_of(routed)) == encode_body(body_of(plain))


def test_what_has_no_effect_is_accepted_and_has_a_reason() -> None:
    sent: dict[str, Any] = {"metadata": {}, "priority": 1, "prompt_cache_options": {}, "verbosity": "low"}
    sent["prediction"] = {"type": "content", "content": "much of it"}
    for name, reason in NO_EFFECT.items():
        assert reason
        if "." not in name:
            assert parsed(**{name: sent.get(name, "x")}) == parsed()
