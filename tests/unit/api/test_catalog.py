"""The catalogue: open to all, counting nodes, naming none."""

from __future__ import annotations

import msgspec

from meshnode.domain import ModelId
from meshnode.engine.slot import ModelState
from meshnode.gateway.keys import KeyRing
from meshnode.mesh.samples import Pace
from tests.kit.api import CARD, MemoryLibrary, MemoryPool, running_api
from tests.kit.fakemesh import ANN, BOB, CONNECTED, FAR, HEARD_OF, FakeMesh

ALSO_HERE = msgspec.structs.replace(FAR, id=ModelId(CARD.id.upper()))
BANNED = msgspec.structs.replace(HEARD_OF, models=(), avoided="it broke the protocol")


async def test_it_counts_nodes_and_lists_what_can_be_asked() -> None:
    mesh = FakeMesh(
        offered=(FAR, ALSO_HERE),
        met=(CONNECTED, HEARD_OF),
        paces={FAR.id: Pace(answers=3, decode_tps=39.567, first_token_s=0.25)},
    )
    async with running_api(mesh=mesh) as api, api.client() as client:
        answer = await client.get("/api/catalog")
    shown = answer.json()
    assert shown["nodes"] == {"live": 3, "serving": 3}
    assert shown["providers"] == {"healthy": 1, "avoided": 1, "successes": 12, "failures": 4}
    assert [(model["id"], model["here"], model["providers"]) for model in shown["models"]] == [
        (CARD.id, True, 3),
        (FAR.id, False, 2),
    ]
    here, far = shown["models"]
    assert (here["state"], here["context_length"], here["answers"]) == ("ready", 1024, 0)
    assert (here["decode_tps_p50"], here["first_token_ms_p50"]) == (None, None)
    assert (far["answers"], far["decode_tps_p50"], far["first_token_ms_p50"]) == (3, 39.57, 250.0)
    assert (far["kinds"], far["modalities"]) == (["generate", "embed"], ["text"])
    assert "auto" in shown["modes"]
    assert "vision" in shown["capabilities"]
    assert ANN not in answer.text
    assert BOB not in answer.text
    assert CARD.path not in answer.text


async def test_it_asks_for_no_key_where_all_else_does() -> None:
    async with running_api(keys=KeyRing((bytes(32),))) as api, api.client() as client:
        assert (await client.get("/api/catalog")).status_code == 200


async def test_what_failed_here_and_who_is_gone_is_not_in_it() -> None:
    failed = ModelState(id=CARD.id, state="failed", reason="damaged")
    mesh = FakeMesh(met=(BANNED,))
    async with running_api(mesh=mesh, pool=MemoryPool(failed)) as api, api.client() as client:
        shown = (await client.get("/api/catalog")).json()
    assert shown["models"] == []
    assert shown["nodes"] == {"live": 1, "serving": 0}
    assert shown["providers"] == {"healthy": 0, "avoided": 0, "successes": 0, "failures": 0}


async def test_a_model_not_loaded_is_one_that_can_be_asked_for() -> None:
    async with running_api(pool=MemoryPool(), library=MemoryLibrary(CARD)) as api, api.client() as client:
        [model] = (await client.get("/api/catalog")).json()["models"]
    assert (model["state"], model["context_length"]) == ("unloaded", CARD.context_length)
