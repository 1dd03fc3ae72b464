"""Which paths a worker still reads once its model is named, and which devices it uses. Pure but for two listings.

Its Python (modules are imported late), the C libraries under it, a GPU's driver with its configuration, what the kernel
tells about processors and memory, and the model. Not: anybody's home, the daemon's, ``/tmp``, ``/var``, ``/run``, other
processes under ``/proc``. Nothing may be written, so a driver's cache of compiled kernels is not used: the library
compiles them anew at each load where it has none for this very GPU.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import meshnode

SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/run/opengl-driver"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/timezone"),
    *("/etc/OpenCL", "/etc/vulkan", "/etc/glvnd", "/etc/nvidia", "/etc/drirc"),
    *("/sys", "/proc/self", "/proc/sys", "/proc/driver"),
    *(
        f"/proc/{name}"
        for name in ("cpuinfo", "devices", "filesystems", "loadavg", "meminfo", "modules", "stat", "version")
    ),
)
"""Read on every system; what one has not is passed over."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/full")
_DRIVERS = ("/opt/rocm*", "/opt/amdgpu*", "/opt/cuda*", "/opt/nvidia*", "/opt/intel")
"""Where drivers are put beside the system's libraries; whatever else is in ``/opt`` may hold anything."""
_GPUS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/dxg", "/dev/nvmap", "/dev/nvhost*", "/dev/nvgpu*", "/dev/accel")
_VARIABLES = (
    *("LD_LIBRARY_PATH", "GGML_BACKEND_PATH", "CUDA_PATH", "CUDA_HOME", "ROCM_PATH", "HIP_PATH"),
    *("VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES"),
)
"""Variables of the worker's environment that hold paths of libraries or of drivers' descriptions."""
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf$")


def gpu_devices() -> list[str]:
    """The device files of this machine's GPUs."""
    return _found(_GPUS)


def _found(patterns: Sequence[str]) -> list[str]:
    return sorted(path for pattern in patterns for path in glob.glob(pattern))


def readable(
    model: str,
    environ: Mapping[str, str],
    *,
    search: Sequence[str] = tuple(sys.path),
    prefixes: Sequence[str] = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix),
) -> list[str]:
    """What a worker for ``model`` reads. ``search`` is Python's module path, ``prefixes`` where it is installed.

    Of the folder that holds this package only the package: it may be a checkout in somebody's home.
    """
    package = Path(meshnode.__file__).resolve().parent
    modules = [path for path in search if path and Path(path).resolve() != package.parent]
    named = [path for name in _VARIABLES for path in environ.get(name, "").split(os.pathsep) if path]
    return list(
        dict.fromkeys([*SYSTEM, *_found(_DRIVERS), *prefixes, *modules, *named, str(package), *files_of(model)])
    )


def files_of(model: str) -> list[str]:
    """The model's file; all that lie beside it, where it is one shard of several (``…-00001-of-00003.gguf``)."""
    shard = _SHARD.match(model)
    if shard is None:
        return [model] if model else []
    stem, count = shard["stem"], int(shard["count"])
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, min(count, 1024) + 1)]
