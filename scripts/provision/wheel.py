"""llama-cpp-python, built from source for the hardware found; the wheel is kept outside the checkout."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.faults import EngineBuildFailed
from provision.lockfile import held
from provision.places import Places
from provision.prerequisites import check_disk
from provision.process import child_environment, last_words, run
from provision.screen import Progress, ninja_step

BACKEND_FLAGS: Mapping[str, Mapping[str, str]] = {
    "cpu": {},
    "cuda": {"GGML_CUDA": "on"},
    "rocm": {"GGML_HIP": "on"},
    "vulkan": {"GGML_VULKAN": "on"},
    "metal": {"GGML_METAL": "on"},
}
"""What each build backend switches on."""

COMMON_FLAGS = {"GGML_RPC": "on", "LLAVA_BUILD": "off"}
"""What every build has: the RPC backend (to split a model over machines), no image tools (none are served yet)."""

BUILD_BYTES = {"cuda": 8_000_000_000, "rocm": 8_000_000_000}
"""Free disk that a build wants; others want two gigabytes."""


@dataclass(frozen=True)
class Engine:
    """Which engine is wanted: its version, its backend, and a digest of all that shapes the binary."""

    version: str
    backend: str
    shape: str

    @property
    def key(self) -> str:
        """Name of its folder in the cache, and what stands for it in the stamp."""
        return f"{self.version}-{self.backend}-{self.shape}"


def describe(places: Places, backend: str, environ: Mapping[str, str], cpu: str) -> Engine:
    """The engine for ``backend`` on a machine whose processor is described by ``cpu``."""
    lock = places.lock_file("engine").read_text(encoding="utf-8")
    found = re.search(r"^llama-cpp-python==(\S+)", lock, re.MULTILINE)
    if found is None:
        raise EngineBuildFailed(
            f"{places.lock_file('engine')} does not name llama-cpp-python. Restore it: git checkout"
        )
    build_files = (file.read_text(encoding="utf-8") for file in sorted(slim_file().parent.glob("*.cmake")))
    parts = (lock, cpu, repr(sorted(flags(backend).items())), environ.get("CMAKE_ARGS", ""), *build_files)
    shape = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return Engine(found[1], backend, shape)


def flags(backend: str) -> dict[str, str]:
    """CMake definitions of a build."""
    return {**COMMON_FLAGS, **BACKEND_FLAGS[backend]}


def cmake_arguments(backend: str, environ: Mapping[str, str]) -> str:
    """What CMake is given: our definitions, then the user's own CMAKE_ARGS, which win."""
    defined = {**flags(backend), "CMAKE_PROJECT_llama.cpp_INCLUDE": str(slim_file())}
    ours = shlex.join(f"-D{name}={value}" for name, value in defined.items())
    return f"{ours} {environ.get('CMAKE_ARGS', '')}".strip()


def slim_file() -> Path:
    """What keeps llama.cpp's build to the libraries that are used, and from what does not work."""
    return Path(__file__).with_name("slim.cmake")


def cpu_description(root: Path = Path("/"), system: str = platform.system()) -> str:
    """Model and feature flags of this processor: a native build runs on this kind only."""
    words = [system, platform.machine(), platform.libc_ver()[0]]
    try:
        lines = (root / "proc" / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for name in ("model name", "flags", "Features", "CPU part"):
        words += next(([line.split(":", 1)[1].strip()] for line in lines if line.startswith(name)), [])
    if system == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        words.append(asked.stdout.strip())
    return "\n".join(words)


def parallel_jobs(backend: str, *, cores: int, memory: int) -> int:
    """How many compilers at once: one a core, but no more than memory holds (GPU code takes three times as much)."""
    per_job = 3_000_000_000 if backend in ("cuda", "rocm") else 1_000_000_000
    return max(1, min(cores, memory // per_job))


def cached(places: Places, engine: Engine) -> Path | None:
    """The wheel, if it was built before."""
    return next(iter(sorted((places.cache / "wheels" / engine.key).glob("*.whl"))), None)


def build(places: Places, engine: Engine, environ: Mapping[str, str], *, again: bool = False) -> Path:
    """The engine's wheel, built if it is not in the cache (or ``again`` is said).

    The build happens in a folder of its own, which is renamed when the wheel is whole: a killed build leaves nothing.
    Raises EngineBuildFailed.
    """
    with held(places.cache / "locks" / f"{engine.key}.lock", "building the same engine"):
        wheel = cached(places, engine)
        if wheel is not None and not again:
            return wheel
        check_disk(places.cache, BUILD_BYTES.get(engine.backend, 2_000_000_000), "Building the engine")
        final = places.cache / "wheels" / engine.key
        work = _fresh_folder(places.cache / "build" / engine.key)
        try:
            made = _build_in(work, places, engine, environ)
            check_libraries(made, engine.backend)
            shutil.rmtree(final, ignore_errors=True)
            final.parent.mkdir(parents=True, exist_ok=True)
            made.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    wheel = cached(places, engine)
    if wheel is None:
        raise EngineBuildFailed("The build ended without a wheel.", f"The whole log: {_log(places, engine)}")
    return wheel


def check_libraries(folder: Path, backend: str) -> None:
    """Raises EngineBuildFailed where the wheel in ``folder`` lacks the libraries it was built for.

    A definition that a build system overlooks would otherwise give an engine that is silently on the CPU.
    """
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as package:
        names = package.namelist()
    wanted = ["rpc", *({"rocm": ["hip"], "cpu": []}.get(backend, [backend]))]
    lacking = [each for each in wanted if not any(f"lib/libggml-{each}." in name for name in names)]
    if lacking:
        raise EngineBuildFailed(f"The engine was built, but without {', '.join(lacking)}: {wheel.name} was not kept.")


def _build_in(work: Path, places: Places, engine: Engine, environ: Mapping[str, str]) -> Path:
    log = _log(places, engine)
    log.unlink(missing_ok=True)
    tools = work / "tools"
    made = work / "wheel"
    pip = [str(places.python), "-m", "pip"]
    locked = ["--require-hashes", "--no-deps"]
    fetch = [*pip, "install", *locked, "--target", str(tools), "-r", str(places.lock_file("engine-build"))]
    # pip keeps built wheels by version, not by flags: its cache could answer with one for other hardware.
    build = [*pip, "wheel", "-v", *locked, "--no-build-isolation", "--no-cache-dir", "--no-binary", "llama-cpp-python"]
    build += ["-w", str(made), "-r", str(places.lock_file("engine"))]
    inside = _build_environment(work, tools, engine, environ)
    with Progress(f"Building llama-cpp-python {engine.version} ({engine.backend})", clock=time.monotonic) as progress:
        for command in (fetch, build):
            status = run(command, log=log, environ=inside, each_line=lambda line: _show(line, progress))
            if status != 0:
                raise EngineBuildFailed(*_failure(engine, log, status))
    return made


def _show(line: str, progress: Progress) -> None:
    step = ninja_step(line)
    if step is not None:
        progress.update(*step)


def _failure(engine: Engine, log: Path, status: int) -> tuple[str, ...]:
    lines = [f"The engine did not build for {engine.backend} (exit status {status}):"]
    lines += [f"    {line}" for line in last_words(log)]
    lines.append(f"The whole log: {log}")
    if engine.backend == "cpu":
        lines.append("Mend the cause and run the same command again.")
    else:
        lines.append(f"Mend the cause, or go on without {engine.backend}: ./scripts/run --cpu (much slower).")
    return tuple(lines)


def _build_environment(work: Path, tools: Path, engine: Engine, environ: Mapping[str, str]) -> dict[str, str]:
    jobs = parallel_jobs(engine.backend, cores=_cores(), memory=_memory_available())
    # The build's own scratch lies beside the cache: /tmp is often small, and memory.
    scratch = work / "tmp"
    scratch.mkdir()
    folders = [str(tools / "bin"), *_toolkit_folders(engine.backend, environ), environ.get("PATH", os.defpath)]
    return child_environment(
        environ,
        TMPDIR=str(scratch),
        PATH=os.pathsep.join(folders),
        PYTHONPATH=str(tools),
        CMAKE_BUILD_PARALLEL_LEVEL=environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(jobs)),
        CMAKE_ARGS=cmake_arguments(engine.backend, environ),
        CMAKE_GENERATOR=environ.get("CMAKE_GENERATOR", "Ninja"),
    )


def _toolkit_folders(backend: str, environ: Mapping[str, str]) -> list[str]:
    program = {"cuda": "nvcc", "rocm": "hipcc"}.get(backend, "")
    found = find_tool(program, environ) if program else None
    return [str(Path(found).parent)] if found else []


def find_tool(name: str, environ: Mapping[str, str]) -> str | None:
    """A GPU toolkit's compiler: on PATH, or where its installer puts it."""
    roots = {
        "nvcc": (environ.get("CUDA_HOME", ""), environ.get("CUDA_PATH", ""), "/usr/local/cuda"),
        "hipcc": (environ.get("ROCM_PATH", ""), "/opt/rocm"),
    }
    folders = [str(Path(root, "bin")) for root in roots.get(name, ()) if root]
    return shutil.which(name, path=os.pathsep.join([environ.get("PATH", os.defpath), *folders]))


def _fresh_folder(parent: Path) -> Path:
    # What an earlier build that was killed left behind goes first; the lock says that nobody is at work in it.
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(parents=True)
    return Path(tempfile.mkdtemp(dir=parent))


def _log(places: Places, engine: Engine) -> Path:
    return places.cache / "logs" / f"engine-{engine.key}.log"


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _memory_available() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^MemAvailable:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
