"""The catalogue is sound in itself: its entries can be pulled, and the best one is the best that fits."""

from __future__ import annotations

import pytest

from meshnode.models.catalogue import DEFAULT, EMBEDDING_MODELS, HUB_MODELS, best_for, by_name, memory_for, suggestion
from meshnode.models.quantisation import is_label
from meshnode.models.sources import HubSource, parse_source
from meshnode.models.store import check_digest


def test_the_default_is_pinned_in_full() -> None:
    check_digest(DEFAULT.sha256)
    check_digest(DEFAULT.wheel_sha256)
    assert DEFAULT.wheel.startswith(f"{DEFAULT.package.replace('-', '_')}-{DEFAULT.version}-")


@pytest.mark.parametrize("model", HUB_MODELS + EMBEDDING_MODELS, ids=lambda model: model.name)
def test_every_entry_can_be_named_and_pulled(model) -> None:  # type: ignore[no-untyped-def]
    source = parse_source(model.source)
    assert isinstance(source, HubSource)
    assert f"{source.owner}/{source.repo}" == model.repository
    assert is_label(model.quantisation)
    assert parse_source(model.name.upper()) == source
    assert by_name(f"{model.name}:{model.quantisation}") is model


def test_the_best_model_is_the_largest_that_fits() -> None:
    assert best_for(1_000_000_000) is None
    eight_gigabytes = best_for(8_000_000_000)
    assert eight_gigabytes is not None
    assert eight_gigabytes.name == "qwen3-8b"
    for model in HUB_MODELS:
        best = best_for(memory_for(model))
        assert best is not None
        assert best.parameters >= model.parameters


def test_nobody_is_offered_a_model_that_only_embeds() -> None:
    assert {best_for(1 << shift) for shift in range(28, 40)}.isdisjoint(EMBEDDING_MODELS)


def test_a_cpu_is_offered_what_it_can_speak_fluently() -> None:
    best = best_for(64_000_000_000, accelerated=False)
    assert best is not None
    assert best.active <= 4


@pytest.mark.parametrize("name", ["default", "Default", "smollm2-135m-instruct", "smollm2-135m-instruct:Q4_1"])
def test_the_default_has_names(name: str) -> None:
    assert by_name(name) is DEFAULT


def test_a_suggestion_names_the_command_or_why_there_is_none() -> None:
    best = HUB_MODELS[0]
    assert f"meshnode pull {best.source}" in suggestion(best, "https://hub.test", reachable=True)
    assert "https://hub.test cannot be reached" in suggestion(best, "https://hub.test", reachable=False)
    nothing_fits = suggestion(None, "https://hub.test", reachable=False)
    assert "memory" in nothing_fits
    assert "cannot be reached" not in nothing_fits, "nobody asked the hub"
