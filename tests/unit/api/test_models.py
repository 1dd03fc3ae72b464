"""``/v1/models``."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.api.models import elsewhere, entry, mesh_entry, named, providers, state_of
from meshnode.domain import ModelId
from tests.kit.api import CARD, MemoryLibrary, MemoryPool, ready, running_api
from tests.kit.fakemesh import ANN, BOB, FAR, PROVIDER, SLOW, FakeMesh

HERE_TOO = msgspec.structs.replace(FAR, id=CARD.id, providers=(PROVIDER,))


def test_a_loaded_model_shows_what_was_measured() -> None:
    shown = entry(CARD, ready())
    assert shown["object"] == "model"
    assert (shown["id"], shown["owned_by"], shown["created"]) == (CARD.id, "local", CARD.added)
    assert (shown["state"], shown["context_length"], shown["decode_tps"]) == ("ready", 1024, 21.5)
    assert (shown["licence"], shown["family"], shown["quantisation"]) == ("apache-2.0", "smollm", "q4_1")
    assert shown["modalities"] == ["text"]
    assert (shown["providers"], shown["provider_count"]) == ([], 0)


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


# --- the mesh's -----------------------------------------------------------------------------------


def test_a_model_of_peers_shows_who_serves_it_how_fast_and_for_how_much() -> None:
    shown = mesh_entry(FAR)
    assert (shown["id"], shown["object"], shown["owned_by"]) == (FAR.id, "model", "mesh")
    assert (shown["context_length"], shown["state"], shown["decode_tps"]) == (4096, "ready", 40.13)
    assert (shown["licence"], shown["family"], shown["quantisation"]) == ("apache-2.0", "qwen", "q4_k_m")
    assert shown["provider_count"] == 2
    assert shown["providers"][0] == {
        "peer": ANN, "decode_tps": 40.13, "context_length": 4096, "state": "ready",
        "prices": {"input_uc": 15, "output_uc": 125},
    }  # fmt: skip
    assert shown["providers"][1]["peer"] == BOB


def test_it_has_the_same_fields_as_one_of_ours() -> None:
    assert mesh_entry(FAR).keys() == entry(CARD, ready()).keys()


@pytest.mark.parametrize(
    ("states", "state"), [(["unloaded", "ready"], "ready"), (["loading", "unloaded"], "loading"), (["odd"], "unloaded")]
)
def test_it_is_as_ready_as_its_readiest_provider(states: list[str], state: str) -> None:
    told = tuple(msgspec.structs.replace(PROVIDER, state=each) for each in states)
    assert state_of(msgspec.structs.replace(FAR, providers=told)) == state


def test_one_that_nobody_measured_has_no_speed() -> None:
    assert mesh_entry(msgspec.structs.replace(FAR, providers=(SLOW,)))["decode_tps"] is None


def test_a_model_that_is_here_and_there_is_one_entry() -> None:
    capital = msgspec.structs.replace(HERE_TOO, id=ModelId(CARD.id.upper()))
    assert elsewhere([FAR, capital], [CARD]) == [FAR]
    assert providers(CARD.id, [FAR, capital]) == (PROVIDER,)
    assert providers("other", [FAR]) == ()


async def test_both_kinds_are_listed_ours_first() -> None:
    mesh = FakeMesh(offered=(FAR, HERE_TOO))
    async with running_api(mesh=mesh) as api, api.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        again = (await client.get(f"/v1/models/{CARD.id}")).json()
    assert [(each["id"], each["owned_by"], each["provider_count"]) for each in listed] == [
        (CARD.id, "local", 1), (FAR.id, "mesh", 2),
    ]  # fmt: skip
    assert again == listed[0]


@pytest.mark.parametrize("name", ["far-8b", "FAR-8B:Q4_K_M", "far-8b:latest"])
async def test_a_model_of_peers_is_found_by_its_names(name: str) -> None:
    async with running_api(mesh=FakeMesh(offered=(FAR,))) as api, api.client() as client:
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == FAR.id


async def test_an_alias_stands_for_a_model_of_peers_too() -> None:
    aliases = {"GPT-9": "far-8b"}
    async with running_api(mesh=FakeMesh(offered=(FAR,)), aliases=aliases) as api, api.client() as client:
        assert (await client.get("/v1/models/gpt-9")).json()["id"] == FAR.id


def test_a_bare_name_means_what_most_serve() -> None:
    rare = msgspec.structs.replace(FAR, id=ModelId("far-8b:q2_k"), providers=(PROVIDER,))
    assert named("far-8b", [rare, FAR]) == FAR
    assert named("far-8b:q2_k", [rare, FAR]) == rare
    assert named("far-8b:q8_0", [rare, FAR]) is None


async def test_an_unknown_name_hints_at_those_of_peers_too() -> None:
    mesh = FakeMesh(offered=(FAR,))
    async with running_api(mesh=mesh, library=MemoryLibrary()) as api, api.client() as client:
        near = await client.get("/v1/models/fart-8b")
        nothing_like_it = await client.get("/v1/models/xyzxyz")
    assert (near.status_code, near.json()["error"]["code"]) == (404, "model_not_found")
    assert "far-8b" in near.json()["error"]["message"]
    assert nothing_like_it.status_code == 404
