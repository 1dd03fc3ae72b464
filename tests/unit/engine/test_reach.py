"""Which paths a worker reads: its code, its drivers, its model; nobody's home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import meshnode
from meshnode.engine.reach import files_of, gpu_devices, readable

PACKAGE = Path(meshnode.__file__).resolve().parent


def covers(paths: list[str], path: str | Path) -> bool:
    """Whether something of ``paths`` holds ``path``."""
    wanted = Path(path).resolve()
    return any(wanted.is_relative_to(Path(each).resolve()) for each in paths)


def test_python_its_modules_and_libraries_are_read() -> None:
    paths = readable("", {})
    for needed in (
        sys.executable,
        os.__file__,
        PACKAGE,
        "/usr/lib",
        "/proc/self/statm",
        "/proc/meminfo",
        "/proc/loadavg",
    ):
        assert covers(paths, needed), needed


def test_a_checkout_is_not_read_but_for_the_package() -> None:
    paths = readable("", {}, search=[str(PACKAGE.parent), "/modules"], prefixes=[])
    assert covers(paths, PACKAGE / "engine")
    assert covers(paths, "/modules/x.py")
    assert not covers(paths, PACKAGE.parent / "tests")


def test_homes_and_other_processes_are_not_read() -> None:
    paths = readable("/models/m.gguf", {}, search=[], prefixes=[])
    for kept in (
        "/etc/passwd",
        "/etc/shadow",
        "/var/lib",
        "/run/user",
        "/home/alice/.ssh",
        "/proc/1/cmdline",
        "/dev",
        "/opt/shop",
    ):
        assert not covers(paths, kept), kept


def test_libraries_that_the_environment_names_are_read() -> None:
    environ = {"LD_LIBRARY_PATH": "/a/lib:/b/lib", "CUDA_PATH": "/cuda", "HOME": "/home/x", "PATH": "/home/x/bin"}
    paths = readable("", environ, search=[], prefixes=[])
    assert {"/a/lib", "/b/lib", "/cuda"} <= set(paths)
    assert not covers(paths, "/home/x")


def test_a_model_is_its_file() -> None:
    assert files_of("/m/model.gguf") == ["/m/model.gguf"]
    assert files_of("") == []
    paths = readable("/m/model.gguf", {}, search=[], prefixes=[])
    assert covers(paths, "/m/model.gguf")
    assert not covers(paths, "/m/other.gguf")


def test_a_shard_brings_the_others() -> None:
    assert files_of("/m/big-00002-of-00003.gguf") == [f"/m/big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert len(files_of("/m/big-00001-of-99999.gguf")) == 1024
    assert files_of("/m/big-00001-of-3.gguf") == ["/m/big-00001-of-3.gguf"]


def test_gpus_are_devices() -> None:
    assert all(path.startswith("/dev/") for path in gpu_devices())
