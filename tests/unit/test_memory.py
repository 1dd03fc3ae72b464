"""Which models share a machine's memory, with how much context, and what is said of those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
import trio

from meshnode.config import EngineSettings
from meshnode.domain import ModelCard, ModelId
from meshnode.engine.machine import Machine
from meshnode.engine.pipe import Device
from meshnode.engine.probe import Probe
from meshnode.engine.room import Tenant
from meshnode.memory import ModelMemory
from meshnode.models.fit import GIB
from meshnode.storage.database import open_inline
from meshnode.storage.facts import Facts

MODEL = ModelCard(
    id=ModelId("qwen3-8b:q4_k_m"), path="", size=5_000_000_000, modified_ns=0, sha256="", architecture="qwen3",
    quantisation="q4_k_m", context_length=40960, layers=36, embedding_length=4096, kv_bytes_per_token=147_456,
    vocab_size=151_936, active_bytes=4_700_000_000,
)  # fmt: skip
OTHER = msgspec.structs.replace(MODEL, id=ModelId("other"))
HERE, COMING = Tenant(OTHER, settled=True), Tenant(OTHER, settled=False)
CPU = Device(name="CPU", description="a processor", kind="cpu", memory_total=0, memory_free=0)
GPU = Device(name="CUDA0", description="a card", kind="gpu", memory_total=24 * GIB, memory_free=24 * GIB)


def memory(free: int, *devices: Device, backends: tuple[str, ...] = ("CPU",), **settings: object) -> ModelMemory:
    """Of a machine with so many bytes free."""
    probe = Probe(backends=backends, devices=devices or (CPU,), gpu_offload=bool(devices))
    return ModelMemory(Machine(probe=probe), EngineSettings(**settings), lambda: free)  # type: ignore[arg-type]


def test_a_model_that_fits_gets_the_context_it_would_have_had() -> None:
    house = memory(32 * GIB)
    verdict = house.room(MODEL, [], [])
    assert verdict.fits
    assert verdict.needed > MODEL.size
    assert house.context_for(MODEL) == 32768


def test_where_nobody_named_a_context_a_shorter_one_that_fits_will_do() -> None:
    house = memory(8 * GIB)
    assert house.room(MODEL, [], []).fits
    assert 512 <= house.context_for(MODEL) < 32768


def test_an_absurd_context_is_refused_with_numbers_and_the_largest_that_fits() -> None:
    house = memory(8 * GIB, context=4_000_000)
    verdict = house.room(MODEL, [], [])
    assert not verdict.fits
    assert "4,000,000 tokens" in verdict.sentence
    assert "GB" in verdict.sentence
    assert "with " in verdict.sentence
    assert "it would" in verdict.sentence


def test_a_context_that_the_owner_set_is_not_cut_in_silence() -> None:
    assert not memory(8 * GIB, context=32768).room(MODEL, [], []).fits


def test_what_a_loaded_model_maps_counts_though_the_kernel_calls_it_free() -> None:
    house = memory(8 * GIB)
    assert house.room(MODEL, [], []).fits
    assert not house.room(MODEL, [HERE], []).fits


def test_what_is_still_being_loaded_counts_whole() -> None:
    house = memory(18 * GIB)
    assert house.room(MODEL, [HERE], []).fits
    assert not memory(14 * GIB, context=32768).room(MODEL, [COMING], []).fits


def test_who_leaves_gives_its_cache_back() -> None:
    house = memory(7 * GIB, context=16384)
    assert not house.room(MODEL, [], []).fits
    assert house.room(MODEL, [], [HERE]).fits
    assert not house.room(MODEL, [], [COMING]).fits


def test_the_memory_that_the_owner_set_is_shared_whatever_is_free() -> None:
    house = memory(1 * GIB, memory=11 * GIB, context=8192)
    assert house.room(MODEL, [], []).fits
    assert not house.room(MODEL, [HERE], []).fits
    assert memory(1 * GIB, memory=16 * GIB, context=8192).room(MODEL, [HERE], []).fits


def test_a_gpu_is_shared_too() -> None:
    house = memory(4 * GIB, GPU, context=8192)
    assert house.room(MODEL, [], []).fits
    assert house.room(MODEL, [HERE], []).fits
    assert not house.room(MODEL, [HERE] * 4, []).fits
    assert not memory(4 * GIB, GPU, context=8192, cpu=True).room(MODEL, [], []).fits


def test_memory_that_the_gpu_shares_is_counted_once() -> None:
    assert not memory(8 * GIB, GPU, backends=("MTL",), context=4_000_000).room(MODEL, [], []).fits


def test_a_system_that_says_nothing_refuses_nothing() -> None:
    assert memory(0).room(MODEL, [HERE], []).fits


def test_the_outlook_is_of_the_model_alone_and_of_the_context_asked_for() -> None:
    house = memory(8 * GIB)
    assert not house.outlook(MODEL).fits
    told = house.outlook(MODEL, 4096)
    assert told.fits
    assert told.fit.context == 4096
    assert told.speed.source == "unknown"


@pytest.mark.parametrize(
    "fields",
    [{"model": MODEL.id, "load_s": 1.0}, {"model": 5, "active": 1, "decode_mtps": 2}, {"model": "a", "active": "x"}],
)
def test_facts_without_a_speed_are_passed_over(fields: Mapping[str, object]) -> None:
    house = memory(8 * GIB)
    house.heard("model_loaded", fields)
    house.heard("node_started", {})
    assert house.outlook(MODEL).speed.source == "unknown"


def test_a_speed_is_remembered_over_a_restart() -> None:
    async def scenario() -> None:
        fact: dict[str, str | int | float] = {
            "model": MODEL.id,
            "load_s": 1.0,
            "active": 10,
            "decode_mtps": 12_500,
            "gpu_layers": 0,
        }
        async with open_inline() as database:
            facts = Facts(database, lambda: 0.0)
            await memory(8 * GIB).noting(facts.note)("model_loaded", fact)
            again = memory(8 * GIB)
            await again.recall(facts)
        assert again.outlook(MODEL).speed.decode_tps == 12.5
        assert again.outlook(MODEL).speed.source == "measured"

    trio.run(scenario)
