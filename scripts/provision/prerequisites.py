"""What this machine must bring: Python's own parts, compilers, the GMP headers, room on the disk."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.faults import MissingPrerequisite
from provision.packages import System
from provision.screen import say

GMP_FOLDERS = ("/opt/homebrew", "/opt/local", "/usr/local")
"""Where macOS package managers put headers that its compiler does not look for."""

GPU_KEYS = frozenset({"glslc", "vulkan", "spirv"})
"""Needs that ``--cpu`` does away with."""

_GMP_TEST = "#include <gmp.h>\nint main(void) { mpz_t x; mpz_init(x); return 0; }\n"
_CXX_TEST = "#include <optional>\nint main() { return std::optional<int>{0}.value(); }\n"
_C_TEST = "#include <stdio.h>\nint main(void) { return 0; }\n"


@dataclass(frozen=True)
class Need:
    """One thing this machine must have: its key among the package names, and what to call it."""

    key: str
    title: str
    present: Callable[[], bool]


def python_version() -> str:
    """``3.11`` of the interpreter that runs this."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def compiler_flags(environ: Mapping[str, str], *, system: str = sys.platform, root: Path = Path("/")) -> dict[str, str]:
    """CFLAGS and LDFLAGS that let macOS compilers see GMP; empty where none are needed."""
    if system != "darwin":
        return {}
    for folder in GMP_FOLDERS:
        prefix = root / folder.lstrip("/")
        if (prefix / "include" / "gmp.h").is_file():
            return {
                "CFLAGS": f"-I{prefix}/include {environ.get('CFLAGS', '')}".strip(),
                "LDFLAGS": f"-L{prefix}/lib {environ.get('LDFLAGS', '')}".strip(),
            }
    return {}


def needs(environ: Mapping[str, str]) -> list[Need]:
    """Everything that must be there, in the order in which it is told."""
    c = environ.get("CC") or _first("cc", "gcc", "clang")
    cxx = environ.get("CXX") or _first("c++", "g++", "clang++")
    flags = compiler_flags(environ)
    gmp = [*shlex.split(flags.get("CFLAGS", "")), "{source}", *shlex.split(flags.get("LDFLAGS", "")), "-lgmp"]
    return [
        Need("venv", "Python's venv and ensurepip", _has_venv),
        Need("python-headers", f"Python {python_version()} headers (Python.h)", _has_headers),
        Need("cc", "C compiler", lambda: _compiles(c, _C_TEST, ".c", ["{source}"])),
        Need("c++", "C++17 compiler", lambda: _compiles(cxx, _CXX_TEST, ".cpp", ["-std=c++17", "{source}"])),
        # Without a compiler nothing can be said about GMP but whether the file lies where it usually does.
        Need("gmp", "GMP headers (gmp.h)", lambda: _compiles(c, _GMP_TEST, ".c", gmp) if c else _gmp_lies_there()),
    ]


def gpu_needs(backend: str, environ: Mapping[str, str]) -> list[Need]:
    """What building for ``backend`` takes on top. CUDA and ROCm are chosen only where their compilers are."""
    if backend != "vulkan":
        return []
    c = environ.get("CC") or _first("cc", "gcc", "clang")
    headers = {"vulkan": "vulkan/vulkan.h", "spirv": "spirv/unified1/spirv.h"}
    return [
        Need("glslc", "Vulkan's shader compiler (glslc)", lambda: shutil.which("glslc") is not None),
        Need("vulkan", "Vulkan headers (vulkan/vulkan.h)", lambda: _has_header(c, headers["vulkan"])),
        Need("spirv", "SPIR-V headers (spirv/unified1/spirv.h)", lambda: _has_header(c, headers["spirv"])),
    ]


def check(
    system: System, environ: Mapping[str, str], needed: Callable[[Mapping[str, str]], Sequence[Need]] = needs
) -> None:
    """Raises MissingPrerequisite, one line for each thing missing; first installs what it may by itself."""
    missing = [need for need in needed(environ) if not need.present()]
    if missing and system.installs_itself:
        install_packages(system, [need.key for need in missing])
        missing = [need for need in needed(environ) if not need.present()]
    if missing:
        lines = [_line(need, system) for need in missing]
        if any(need.key in GPU_KEYS for need in missing):
            lines.append("Or go on without the GPU: ./scripts/run --cpu (much slower).")
        raise MissingPrerequisite(*lines)


def install_packages(system: System, keys: Sequence[str]) -> None:
    """Installs packages as root on Debian or Ubuntu, saying so; apt's own words are shown where it fails."""
    assert system.manager is not None
    names = [name for key in keys for name in system.manager.names(key, python_version())]
    # --reinstall: a package may be there whose files are not.
    install = ["apt-get", "install", "-y", "--reinstall", "--no-install-recommends", *dict.fromkeys(names)]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], install):
        say(f"As root on Debian or Ubuntu, running: {' '.join(command)}")
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            say("\n".join(done.stdout.splitlines()[-5:]))


def check_disk(folder: Path, needed: int, purpose: str, *, free: int | None = None) -> None:
    """Raises MissingPrerequisite where the disk that holds ``folder`` has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free if free is None else free
    if free < needed:
        raise MissingPrerequisite(
            f"Missing: free disk. {purpose} needs {needed / 1e9:.1f} GB under {folder}, {free / 1e9:.1f} GB are free. "
            f"See what fills it: du -xh -d 2 {shlex.quote(str(folder))} | sort -h | tail"
        )


def _line(need: Need, system: System) -> str:
    command = system.advice(need.key, python_version())
    how = f"Install: {command}" if command else "Install it with your system's package manager."
    return f"Missing: {need.title}. {how}"


def _first(*programs: str) -> str:
    return next((shlex.quote(found) for program in programs if (found := shutil.which(program))), "")


def _has_venv() -> bool:
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


def _has_headers() -> bool:
    return (Path(str(sysconfig.get_config_var("INCLUDEPY"))) / "Python.h").is_file()


def _gmp_lies_there() -> bool:
    folders = [
        Path("/usr/include"),
        *Path("/usr/include").glob("*-linux-*"),
        *(Path(f, "include") for f in GMP_FOLDERS),
    ]
    return any((folder / "gmp.h").is_file() for folder in folders)


def _has_header(compiler: str, name: str) -> bool:
    return _compiles(compiler, f"#include <{name}>\n{_C_TEST}", ".c", ["{source}"])


def _compiles(compiler: str, source: str, suffix: str, arguments: Sequence[str]) -> bool:
    if not compiler:
        return False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"test{suffix}")
        file.write_text(source)
        filled = [str(file) if each == "{source}" else each for each in arguments]
        command = [*shlex.split(compiler), *filled, "-o", str(Path(folder, "test"))]
        try:
            return subprocess.run(command, capture_output=True, timeout=120).returncode == 0
        except OSError:
            return False
