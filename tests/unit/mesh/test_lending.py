"""Which models strangers may use."""

from __future__ import annotations

import pytest

from meshnode.domain import ModelId
from meshnode.mesh.lending import Lending

SMALL, LARGE = ModelId("smollm2-135m-instruct:q4_1"), ModelId("qwen3-8b:q4_k_m")


@pytest.mark.parametrize(
    ("named", "lent"),
    [
        (("*",), {SMALL, LARGE}),
        ((), set()),
        (("smollm2-135m-instruct",), {SMALL}),
        (("SmolLM2-135M-Instruct:Q4_1",), {SMALL}),
        (("smollm2-135m-instruct:q8_0",), set()),
        (("qwen3-8b", "*"), {SMALL, LARGE}),
    ],
)
def test_the_configuration_names_models_as_people_write_them(named: tuple[str, ...], lent: set[ModelId]) -> None:
    lending = Lending(named, {})
    assert {model for model in (SMALL, LARGE) if lending.lends(model)} == lent


def test_what_the_owner_said_counts_more() -> None:
    lending = Lending(("*",), {SMALL: False})
    assert (lending.lends(SMALL), lending.lends(LARGE)) == (False, True)
    lending.say(SMALL, True)
    lending.say(LARGE, False)
    assert (lending.lends(SMALL), lending.lends(LARGE)) == (True, False)


def test_a_node_that_only_uses_the_mesh_lends_nothing() -> None:
    lending = Lending(("*",), {SMALL: True}, nothing=True)
    lending.say(LARGE, True)
    assert not lending.lends(SMALL)
    assert not lending.lends(LARGE)
