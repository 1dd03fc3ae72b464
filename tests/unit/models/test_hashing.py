"""Hashes are right, told of as they grow, and can be cancelled."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
import trio

from meshnode.errors import DiskFull
from meshnode.models.hashing import BLOCK, copy, quiet, sha256_of, write_all


async def test_a_hash_grows_with_its_report() -> None:
    data = os.urandom(1000) * (BLOCK // 1000 + 50)
    told: list[int] = []

    async def report(done: int, total: int | None) -> None:
        assert total == len(data)
        told.append(done)

    assert await sha256_of(io.BytesIO(data), len(data), report) == hashlib.sha256(data).hexdigest()
    assert told == [BLOCK, len(data)]


async def test_hashing_stops_between_two_blocks() -> None:
    done: list[int] = []

    async def stop_at_once(count: int, total: int | None) -> None:
        done.append(count)
        scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        await sha256_of(io.BytesIO(bytes(3 * BLOCK)), 3 * BLOCK, stop_at_once)
    assert scope.cancelled_caught
    assert done == [BLOCK]


async def test_a_copy_is_hashed_on_the_way(tmp_path: Path) -> None:
    with (tmp_path / "copy").open("wb", buffering=0) as target:
        size, digest = await copy(io.BytesIO(b"content"), target, tmp_path, 7, quiet)
    assert (size, digest) == (7, hashlib.sha256(b"content").hexdigest())
    assert (tmp_path / "copy").read_bytes() == b"content"


async def test_a_source_that_never_ends_is_left(tmp_path: Path) -> None:
    with open("/dev/zero", "rb") as endless, (tmp_path / "copy").open("wb", buffering=0) as target:  # noqa: ASYNC230
        size, _ = await copy(endless, target, tmp_path, 100, quiet)
    assert 100 < size <= BLOCK


async def test_a_full_disk_ends_a_copy(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as target, pytest.raises(DiskFull):  # noqa: ASYNC230
        await copy(io.BytesIO(b"content"), target, tmp_path, 7, quiet)


def test_every_byte_is_written(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb", buffering=0) as target:
        write_all(target, b"abc")
    assert (tmp_path / "x").read_bytes() == b"abc"
