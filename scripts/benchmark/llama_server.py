"""llama-server of the very source that the installed llama-cpp-python was built from."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "llama-cpp-python"
SCRIPTS = Path(__file__).resolve().parents[1]
LOCK = SCRIPTS / "requirements" / "engine.lock"
AMX = SCRIPTS / "provision" / "without_amx.cmake"


def cached() -> Path:
    """Where the program is, or would be once built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "meshnode" / "llama-server" / importlib.metadata.version(PACKAGE) / "build" / "bin" / "llama-server"


def build(gpu: str | None) -> Path:
    """Fetch the source package and build llama-server for this machine, unless that was done before; minutes.

    ``gpu`` is a backend in ggml's words (``CUDA``, ``VULKAN``, ``HIP``). Raises CalledProcessError.
    """
    program = cached()
    if program.is_file():
        return program
    folder = program.parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(folder)
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
    options.append(f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={AMX}")
    options += [f"-DGGML_{gpu}=ON"] if gpu else []
    _run("cmake", "-S", str(source), "-B", str(folder / "build"), *options)
    parallel = str(os.cpu_count() or 1)
    _run("cmake", "--build", str(folder / "build"), "--target", "llama-server", "--parallel", parallel)
    shutil.rmtree(source.parents[1])
    return program


def _source(folder: Path) -> Path:
    """llama.cpp's source, unpacked below ``folder``."""
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-binary", PACKAGE)
    _run(*pip, "--dest", str(folder), "--requirement", str(LOCK))
    (package,) = folder.glob("*.tar.gz")
    _run("tar", "-xzf", str(package), "-C", str(folder))
    package.unlink()
    (source,) = folder.glob("*/vendor/llama.cpp")
    return source


def _run(*command: str) -> None:
    """Run a step; what it says goes to stderr, for stdout is the figures'. Raises CalledProcessError."""
    subprocess.run(command, check=True, stdout=sys.stderr)
