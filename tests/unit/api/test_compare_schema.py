"""The body of a comparison: one chat request for each model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshnode.api.compare_schema import parse_comparison
from meshnode.api.schema import Asker
from meshnode.domain import CallerId, RequestId
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter
from tests.kit.api import CHAT

ASKER = Asker(RequestId("r1"), CallerId("owner"))


def parse(**fields: Any) -> list[tuple[str, str]]:
    """The model and the id of each request."""
    made = parse_comparison(msgspec.json.encode(CHAT | fields), ASKER)
    return [(ask.request.model, ask.request.id) for ask in made.asks]


def test_each_model_has_a_request_of_its_own() -> None:
    made = parse_comparison(msgspec.json.encode({**CHAT, "models": ["a", "b:q4_0"], "max_tokens": 7, "seed": 3}), ASKER)
    assert [ask.model for ask in made.asks] == ["a", "b:q4_0"]
    assert [(ask.request.model, ask.request.id) for ask in made.asks] == [("a", "r1.0"), ("b:q4_0", "r1.1")]
    for ask in made.asks:
        assert (ask.request.stopping.max_tokens, ask.request.sampling.seed, ask.request.fallbacks) == (7, 3, ())
        assert ask.request.messages == made.ask.request.messages != ()


def test_a_model_may_stand_beside_itself() -> None:
    assert parse(models=["a", "a"], model=None) == [("a", "r1.0"), ("a", "r1.1")]


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({}, InvalidField, "models"),
        ({"models": None}, InvalidField, "models"),
        ({"models": ["a"]}, InvalidField, "models"),
        ({"models": ["a"] * 9}, InvalidField, "models"),
        ({"models": ["a", 1]}, InvalidField, "models[1]"),
        ({"models": ["a", ""]}, InvalidField, "models[1]"),
        ({"models": ["a", "b"], "model": "c"}, InvalidField, "model"),
        ({"models": ["a", "b"], "fallback_models": ["c"]}, UnsupportedParameter, "fallback_models"),
        ({"models": ["a", "b"], "temprature": 1}, UnknownField, "temprature"),
        ({"models": ["a", "b"], "messages": []}, InvalidField, "messages"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[RequestError], param: str) -> None:
    with pytest.raises(kind) as caught:
        parse(**fields)
    assert caught.value.param == param
