"""Whatever the source, only checked bytes that are a model get a place in the store."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from meshnode.errors import DiskFull, ModelFileRefused, SourceFailed
from meshnode.models.pull import Pulled, PullProgress, Surroundings, check_room, pull_into
from meshnode.models.sources import parse_source
from meshnode.models.store import Store
from tests.kit.hub import Hub, Served
from tests.kit.tinygguf import U32, Value, hostile_ggufs, tiny_gguf
from tests.kit.wheels import offline_pip, packaged, write_wheel

REPOSITORY = "someone/Tiny-GGUF"


async def no_pause(seconds: float) -> None:
    """Try again at once."""
    await trio.lowlevel.checkpoint()


def around(
    hub: str = "http://127.0.0.1:9", *, free: Callable[[], int] = lambda: 1 << 40, environ: dict[str, str] | None = None
) -> Surroundings:
    """The world of a test."""
    return Surroundings(hub, environ or {}, sys.executable, free, no_pause, 20.0)


async def pulled(store: Store, source: str, world: Surroundings) -> tuple[Pulled, list[PullProgress]]:
    """Pull, keeping the progress."""
    told: list[PullProgress] = []

    async def report(progress: PullProgress) -> None:
        told.append(progress)

    with trio.fail_after(60):
        return await pull_into(store, parse_source(source), world, report), told


def kept(store: Store) -> list[str]:
    """Everything in the store's folder."""
    return sorted(os.listdir(store.folder))


def digest_of(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


async def test_a_quantisation_of_a_repository_is_pulled(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny, "tiny-Q8_0.gguf": b"GGUF other"})
    got, told = await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    assert got == Pulled(digest_of(tiny), "tiny-F32.gguf")
    assert kept(store) == [f"{got.digest}.gguf"]
    assert [progress.phase for progress in told if progress.done == progress.total] == ["fetch", "verify"]
    assert len(hub.targets(containing="Q8_0")) == 0


async def test_what_is_there_is_not_fetched_again(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny})
    for _ in range(2):
        await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    assert len(hub.targets(containing="/resolve/")) == 1


async def test_a_long_listing_is_read_to_its_end(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny})
    first = f"/api/models/{REPOSITORY}/tree/main?recursive=true"
    hub.served[first + "&cursor=2"] = hub.served[first]
    hub.served[first] = Served(b"[]", headers={"Link": f'<{hub.url}{first}&cursor=2>; rel="next"'})
    got, _ = await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    assert got.digest == digest_of(tiny)


async def test_bytes_with_another_hash_are_deleted(hub: Hub, store: Store, tiny: bytes) -> None:
    files = hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny})
    files["tiny-F32.gguf"].body = tiny[:-1] + b"!"
    with pytest.raises(SourceFailed, match=r"sha256 [0-9a-f]{16}…, where [0-9a-f]{16}… was promised"):
        await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    assert kept(store) == []


async def test_a_spoiled_part_is_fetched_once_more_whole(hub: Hub, store: Store, tiny: bytes) -> None:
    files = hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny})
    files["tiny-F32.gguf"].cuts = [200_000, 0, 0, 0, 0, 0]
    with pytest.raises(SourceFailed, match="broke off"):
        await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    (part,) = (store.folder / name for name in kept(store) if name.endswith(".part"))
    part.write_bytes(b"GGUF" + bytes(part.stat().st_size - 4))
    got, _ = await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    assert got.digest == digest_of(tiny)
    assert kept(store) == [f"{got.digest}.gguf"]


async def test_a_gated_repository_says_what_to_do(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.add_repository(REPOSITORY, {"tiny-F32.gguf": tiny})
    for served in hub.served.values():
        served.token = "hf_secret"
    with pytest.raises(SourceFailed, match=r"gated.*HF_TOKEN"):
        await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url))
    got, _ = await pulled(store, f"hf:{REPOSITORY}:f32", around(hub.url, environ={"HF_TOKEN": "hf_secret"}))
    assert got.digest == digest_of(tiny)


async def test_a_repository_that_is_not_there_is_said(hub: Hub, store: Store) -> None:
    with pytest.raises(SourceFailed, match="there is nothing at"):
        await pulled(store, "hf:no/where:q4_0", around(hub.url))


async def test_a_url_is_pulled_under_its_own_name(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.served["/files/Tiny%20One-F32.gguf?key=1"] = Served(tiny)
    got, _ = await pulled(store, hub.url + "/files/Tiny%20One-F32.gguf?key=1", around())
    assert got == Pulled(digest_of(tiny), "Tiny One-F32.gguf")


async def test_the_hubs_own_hash_guards_a_plain_url(hub: Hub, store: Store, tiny: bytes) -> None:
    hub.served["/o/r/resolve/main/m.gguf"] = Served(tiny, headers={"X-Linked-ETag": '"' + "0" * 64 + '"'})
    with pytest.raises(SourceFailed, match="was promised"):
        await pulled(store, hub.url + "/o/r/resolve/main/m.gguf", around(hub.url))


async def test_no_hostile_file_gets_a_place(hub: Hub, store: Store, tmp_path: Path) -> None:
    shard = tiny_gguf()
    shard.metadata["split.count"] = Value(U32, 2)
    bodies = {name: path.read_bytes() for name, path in hostile_ggufs(tmp_path).items()}
    for name in ("truncated_data", "absurd_layers", "lying_tensor_count"):
        hub.served["/m.gguf"] = Served(bodies[name])
        with pytest.raises(ModelFileRefused):
            await pulled(store, hub.url + "/m.gguf", around())
    hub.served["/m.gguf"] = Served(shard.encode())
    with pytest.raises(ModelFileRefused, match="shard 1 of 2"):
        await pulled(store, hub.url + "/m.gguf", around())
    assert kept(store) == []


async def test_a_file_is_copied_and_left_where_it_was(store: Store, tmp_path: Path, tiny: bytes) -> None:
    path = tmp_path / "Mine-F32.gguf"
    path.write_bytes(tiny)
    got, told = await pulled(store, str(path), around())
    assert got == Pulled(digest_of(tiny), path.name)
    assert store.path(got.digest).read_bytes() == path.read_bytes() == tiny
    assert told[-1] == PullProgress(phase="fetch", done=len(tiny), total=len(tiny))


async def test_a_bad_file_is_refused_before_it_is_copied(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<html>")
    with pytest.raises(ModelFileRefused, match=r"page\.gguf"):
        await pulled(store, str(path), around())
    with pytest.raises(ModelFileRefused, match="No such file"):
        await pulled(store, str(tmp_path / "missing.gguf"), around())
    assert kept(store) == []


async def test_a_disk_too_small_is_said_with_both_numbers(store: Store, tmp_path: Path, tiny: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny)
    with pytest.raises(DiskFull, match=r"m\.gguf needs 68 MB, and 5 MB is free"):
        await pulled(store, str(path), around(free=lambda: 5_000_000))
    with pytest.raises(DiskFull, match="smollm2"):
        await pulled(store, "default", around(free=lambda: 200_000_000))
    assert kept(store) == []
    check_room(1, 1 << 40, "anything")


async def test_a_packaged_model_keeps_its_id(store: Store, tmp_path: Path, tiny: bytes) -> None:
    model = packaged(write_wheel(tmp_path, {"x.gguf": tiny}), tiny)
    told: list[str] = []

    async def report(progress: PullProgress) -> None:
        told.append(progress.phase)

    for _ in range(2):
        got = await pull_into(store, model, around(environ=offline_pip(tmp_path)), report)
        assert got == Pulled(digest_of(tiny), model.id, model.id)
    assert kept(store) == [f"{got.digest}.gguf"]
    assert list(dict.fromkeys(told)) == ["fetch", "verify", "unpack"]
