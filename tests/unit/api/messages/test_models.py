"""Models in Anthropic's shape, page by page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.messages.models import info, page
from meshnode.api.models import entry, mesh_entry
from meshnode.errors import InvalidField
from tests.kit.anthropic_shapes import Model, Page
from tests.kit.api import CARD, ready
from tests.kit.fakemesh import FAR


def listed(count: int) -> list[dict[str, Any]]:
    return [info(entry(CARD, None) | {"id": f"m{number}"}) for number in range(count)]


def test_a_model_has_the_shape_and_what_we_know_beside() -> None:
    shown = info(entry(CARD, ready()), "Tiny")
    model = msgspec.convert(shown, Model)
    assert (model.id, model.display_name, model.created_at) == (CARD.id, "Tiny", "2023-11-14T22:13:20Z")
    assert model.max_input_tokens == 1024
    assert shown["licence"] == "apache-2.0"
    assert "object" not in shown


def test_a_model_of_peers_is_as_old_as_time() -> None:
    model = msgspec.convert(info(mesh_entry(FAR)), Model)
    assert (model.display_name, model.created_at) == (FAR.id, "1970-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({}, ["m0", "m1", "m2"], False),
        ({"limit": "2"}, ["m0", "m1"], True),
        ({"limit": "2", "after_id": "m1"}, ["m2"], False),
        ({"limit": "1", "after_id": "m0"}, ["m1"], True),
        ({"limit": "1", "before_id": "m2"}, ["m1"], True),
        ({"before_id": "m1"}, ["m0"], False),
        ({"after_id": "m2"}, [], False),
    ],
)
def test_pages(query: dict[str, str], ids: list[str], more: bool) -> None:
    found = msgspec.convert(page(listed(3), query), Page)
    assert ([model.id for model in found.data], found.has_more) == (ids, more)
    assert (found.first_id, found.last_id) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": ""},
        {"limit": "٣"},
        {"after_id": "nix"},
        {"before_id": "nix"},
        {"before_id": "m1", "after_id": "m0"},
    ],
)
def test_a_page_that_is_none(query: dict[str, str]) -> None:
    with pytest.raises(InvalidField) as caught:
        page(listed(3), query)
    assert caught.value.param in query


@given(st.integers(0, 12), st.integers(1, 5))
def test_going_on_from_page_to_page_shows_each_model_once(count: int, limit: int) -> None:
    seen: list[str] = []
    found = page(listed(count), {"limit": str(limit)})
    while True:
        seen += [model["id"] for model in found["data"]]
        if not found["has_more"]:
            break
        found = page(listed(count), {"limit": str(limit), "after_id": found["last_id"]})
    assert seen == [f"m{number}" for number in range(count)]
