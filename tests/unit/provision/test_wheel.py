"""The engine's wheel: keyed by all that shapes it, whole or not there, never silently for other hardware."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from provision import wheel
from provision.faults import EngineBuildFailed
from provision.places import Places
from tests.unit.provision.checkout import script, small_checkout

SCRIPTS = Path(__file__).parents[3] / "scripts"
BUILD = """
import os, pathlib, sys
from provision import places, wheel
here = places.Places(*map(pathlib.Path, sys.argv[1:]))
wheel.build(here, wheel.describe(here, "cpu", {}, "a cpu"), os.environ)
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return small_checkout(tmp_path)


def pip_that(places: Places, build: str) -> None:
    """Stands in for pip: installing tools works, building the wheel does ``build`` in the folder for it, ``$out``."""
    finder = 'while [ $# -gt 0 ]; do [ "$1" = -w ] && out=$2; shift; done; mkdir -p "$out"\n'
    script(
        places.python,
        f'case "$*" in *" install "*) exit 0;; esac\necho "$CMAKE_ARGS" > "{places.cache}/args"\n{finder}{build}\n',
    )


def packing(places: Places, *libraries: str) -> str:
    """Shell lines that put a wheel with ``libraries`` into ``$out``."""
    ready = places.cache / "ready.whl"
    with zipfile.ZipFile(ready, "w") as package:
        for name in libraries:
            package.writestr(f"llama_cpp/lib/libggml-{name}.so", b"")
    return f'cp "{ready}" "$out/llama_cpp_python-1.2.3-py3-none-any.whl"'


def test_the_key_follows_what_shapes_the_binary(places: Places) -> None:
    first = wheel.describe(places, "cpu", {}, "a cpu")
    assert first.key.startswith("1.2.3-cpu-")
    others = [
        wheel.describe(places, "cuda", {}, "a cpu"),
        wheel.describe(places, "cpu", {"CMAKE_ARGS": "-DX=1"}, "a cpu"),
        wheel.describe(places, "cpu", {}, "another cpu"),
    ]
    assert len({first.key, *(other.key for other in others)}) == 4
    assert wheel.describe(places, "cpu", {"HOME": "/x"}, "a cpu") == first


def test_a_build_is_kept_and_not_done_again(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    pip_that(places, "echo '[1/2] cc'; echo '[2/2] ld'; " + packing(places, "rpc"))
    engine = wheel.describe(places, "cpu", {}, "a cpu")
    built = wheel.build(places, engine, os.environ)
    assert built == wheel.cached(places, engine)
    assert "50 % (1/2)" in capsys.readouterr().err
    pip_that(places, "exit 1")
    assert wheel.build(places, engine, os.environ) == built
    with pytest.raises(EngineBuildFailed):
        wheel.build(places, engine, os.environ, again=True)
    assert wheel.cached(places, engine) == built


def test_a_failed_gpu_build_says_what_happened_and_how_to_go_on(places: Places) -> None:
    pip_that(places, "echo 'x.cu:1: error: no such architecture'; exit 1")
    with pytest.raises(EngineBuildFailed) as caught:
        wheel.build(places, wheel.describe(places, "cuda", {}, "a cpu"), os.environ)
    said = "\n".join(caught.value.lines)
    assert "no such architecture" in said
    assert "./scripts/run --cpu" in said
    assert list((places.cache / "build").rglob("*.whl")) == []


@pytest.mark.parametrize(("backend", "there"), [("cuda", ["rpc"]), ("rocm", ["rpc", "cuda"]), ("cpu", [])])
def test_a_build_that_forgot_its_backend_is_not_kept(places: Places, backend: str, there: list[str]) -> None:
    pip_that(places, packing(places, *there))
    engine = wheel.describe(places, backend, {}, "a cpu")
    with pytest.raises(EngineBuildFailed, match="without"):
        wheel.build(places, engine, os.environ)
    assert wheel.cached(places, engine) is None


def test_a_killed_build_leaves_nothing_that_counts(places: Places) -> None:
    pip_that(
        places, "touch \"$out/llama_cpp_python-1.2.3-py3-none-any.whl\"; echo '[1/2] cc'; kill -9 $PPID; exec sleep 0"
    )
    command = [sys.executable, "-c", BUILD, str(places.checkout), str(places.cache)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    engine = wheel.describe(places, "cpu", {}, "a cpu")
    assert wheel.cached(places, engine) is None
    pip_that(places, packing(places, "rpc"))
    assert wheel.build(places, engine, os.environ).is_file()


def test_cmake_gets_our_definitions_and_then_the_users() -> None:
    arguments = shlex.split(wheel.cmake_arguments("cuda", {"CMAKE_ARGS": '-DGGML_CUDA=off -DX="a b"'}))
    assert {"-DGGML_RPC=on", "-DGGML_CUDA=on"} <= set(arguments)
    assert arguments[-2:] == ["-DGGML_CUDA=off", "-DX=a b"]


def test_compilers_at_once_fit_cores_and_memory() -> None:
    assert wheel.parallel_jobs("cpu", cores=8, memory=64_000_000_000) == 8
    assert wheel.parallel_jobs("cuda", cores=8, memory=7_000_000_000) == 2
    assert wheel.parallel_jobs("cpu", cores=8, memory=100_000_000) == 1


def test_toolkits_are_found_beside_the_path(tmp_path: Path) -> None:
    nvcc = script(tmp_path / "cuda/bin/nvcc", "exit 0\n")
    assert wheel.find_tool("nvcc", {"PATH": "", "CUDA_HOME": str(tmp_path / "cuda")}) == str(nvcc)
    assert wheel.find_tool("glslc", {"PATH": str(tmp_path)}) is None


def test_a_processor_is_told_by_model_and_features(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2\n")
    assert "Some CPU\nfpu avx2" in wheel.cpu_description(tmp_path, "Linux")
