"""``/v1/models``."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.api.models import entry
from meshnode.domain import ModelId
from tests.kit.api import CARD, MemoryLibrary, MemoryPool, ready, running_api


def test_a_loaded_model_shows_what_was_measured() -> None:
    shown = entry(CARD, ready())
    assert shown["object"] == "model"
    assert (shown["id"], shown["owned_by"], shown["created"]) == (CARD.id, "local", CARD.added)
    assert (shown["state"], shown["context_length"], shown["decode_tps"]) == ("ready", 1024, 21.5)
    assert (shown["licence"], shown["family"], shown["quantisation"]) == ("apache-2.0", "smollm", "q4_1")
    assert shown["modalities"] == ["text"]


def test_one_that_is_not_loaded_shows_its_file() -> None:
    shown = entry(CARD, None)
    assert (shown["state"], shown["context_length"], shown["decode_tps"]) == ("unloaded", 2048, None)


@pytest.mark.parametrize("name", ["tiny:q4_1", "TINY", "tiny", "gpt-4o", "Tiny:Q4_1"])
async def test_a_model_is_found_by_any_of_its_names(name: str) -> None:
    async with running_api() as api, api.client() as client:
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == CARD.id


async def test_names_with_slashes_work() -> None:
    card = msgspec.structs.replace(CARD, id=ModelId("owner/repo:q8_0"))
    async with running_api(library=MemoryLibrary(card)) as api, api.client() as client:
        assert (await client.get("/v1/models/owner/repo:q8_0")).json()["id"] == "owner/repo:q8_0"


async def test_an_unknown_one_is_404_with_the_nearest_names() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/v1/models/tinny")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "tiny" in answer.json()["error"]["message"]


async def test_an_empty_node_lists_nothing() -> None:
    async with running_api(library=MemoryLibrary(), pool=MemoryPool()) as api, api.client() as client:
        assert (await client.get("/v1/models")).json() == {"object": "list", "data": []}
