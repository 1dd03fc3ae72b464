"""Which accelerators this machine has, which build of llama.cpp suits them, and whether the installed one uses them.

Standard library only: ``scripts/setup`` imports this before there is a virtual environment. :func:`detect` reads files
under a root that tests build themselves; :func:`backend_for` and :func:`judge` are pure.

What counts as a GPU on Linux: a PCI function of display class (0x03xxxx) by NVIDIA, AMD or Intel that is not handed to
a virtual machine (``vfio-pci``). The virtual adapters of QEMU, VMware, VirtualBox, Hyper-V and the consoles of
servers (ASPEED, Matrox) are by other vendors, and no GPUs. Integrated, which no sysfs file says outright:

* Intel: on bus 00, where its processors have had their graphics since 2010; its discrete cards sit behind a bridge.
* AMD: on bus 00 (until about 2016), or beside functions of the *processor* (vendor 0x1022: its PSP, its USB) in one PCI
  slot, as every APU since has it, or with under 1 GiB of memory of its own.

Under WSL2 GPUs are behind ``/dev/dxg``; that one of them is NVIDIA's is told by the CUDA library Windows puts there.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

_VENDORS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}
_TITLES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple", "wsl": "Windows'"}
_KERNEL_DRIVERS = {"nvidia": {"nvidia"}, "amd": {"amdgpu"}, "intel": {"i915", "xe"}}
_AMD_PROCESSOR = 0x1022
_SMALL_MEMORY = 2**30

_USABLE_BY = {
    "nvidia": {"CUDA", "VULKAN"},
    "amd": {"ROCM", "HIP", "VULKAN"},
    "intel": {"VULKAN", "SYCL"},
    "apple": {"METAL", "MTL"},
    "wsl": {"VULKAN"},
}
_BUILD = "./scripts/run --rebuild"
_ROCM_TOOLS = "apt-get install hipcc libhipblas-dev librocblas-dev"
_VULKAN_TOOLS = "apt-get install glslc libvulkan-dev spirv-headers"
_DRIVERS = {
    "nvidia": "Install its driver (apt-get install nvidia-driver; in a container: start it with --gpus all)",
    "amd": "Give this user access to it (usermod -aG render,video USER, then log in again; in a container: pass "
    "/dev/kfd and /dev/dri) and check that mesa-vulkan-drivers is installed",
    "intel": "Give this user access to it (usermod -aG render,video USER, then log in again; in a container: pass "
    "/dev/dri) and check that mesa-vulkan-drivers is installed",
    "apple": f"Build for Metal: {_BUILD}",
    "wsl": "Install the GPU's driver in Windows",
}
_BUILDS = {
    "nvidia": f"apt-get install nvidia-cuda-toolkit && {_BUILD}",
    "amd": f"{_VULKAN_TOOLS} mesa-vulkan-drivers && {_BUILD}",
    "intel": f"{_VULKAN_TOOLS} mesa-vulkan-drivers && {_BUILD}",
    "apple": _BUILD,
    "wsl": f"{_VULKAN_TOOLS} mesa-vulkan-drivers && {_BUILD}",
}


class Accelerator(NamedTuple):
    """A GPU in this machine. ``vendor``: nvidia, amd, intel, apple or wsl; ``driver``: its kernel driver is loaded."""

    vendor: str
    name: str
    integrated: bool
    driver: bool


class BuildChoice(NamedTuple):
    """What to build llama.cpp for (``cuda``, ``rocm``, ``vulkan``, ``metal``, ``cpu``) and a line for the owner."""

    backend: str
    advice: str


class Verdict(NamedTuple):
    """Whether the installed library may run here: an ``error`` with the ``hint`` that mends it, or perhaps a note."""

    error: str | None
    hint: str
    note: str | None


class Seen(Protocol):
    """A device the library sees; ``kind`` in ggml's words (``cpu``, ``gpu``, ``igpu``, ``accel``)."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def description(self) -> str:
        """Its name."""


# --- what is in the machine -----------------------------------------------------------------------


def detect(
    root: Path = Path("/"), system: str = platform.system(), machine: str = platform.machine()
) -> list[Accelerator]:
    """The GPUs of this machine, in the order of their bus addresses. Never raises: what cannot be read is not there."""
    if system == "Darwin":
        return [Accelerator("apple", "Apple GPU", False, True)] if machine == "arm64" else []
    if system != "Linux":
        return []
    found = list(_pci(root))
    if not any(gpu.vendor == "nvidia" for gpu in found):
        found += _nvidia_without_pci(root)
    return found or list(_wsl(root))


def _pci(root: Path) -> Iterator[Accelerator]:
    for device in _listed(root / "sys/bus/pci/devices"):
        vendor = _VENDORS.get(_number(device / "vendor"), "")
        driver = _target(device / "driver")
        if vendor and _number(device / "class") >> 16 == 0x03 and driver != "vfio-pci":
            loaded = driver in _KERNEL_DRIVERS[vendor] or (vendor == "nvidia" and _nvidia_driver(root))
            yield Accelerator(vendor, _name(root, device, vendor), _integrated(device, vendor), loaded)


def _integrated(device: Path, vendor: str) -> bool:
    on_first_bus = device.name.split(":")[-2:-1] == ["00"]
    if vendor == "intel":
        return on_first_bus
    if vendor != "amd":
        return False
    slot = device.name.rpartition(".")[0]
    neighbours = (other for other in _listed(device.parent) if other.name.rpartition(".")[0] == slot)
    beside_processor = any(_number(other / "vendor") == _AMD_PROCESSOR for other in neighbours)
    memory = _text(device / "mem_info_vram_total")
    return on_first_bus or beside_processor or (memory.isdigit() and int(memory) < _SMALL_MEMORY)


def _name(root: Path, device: Path, vendor: str) -> str:
    told = _nvidia_model(root / "proc/driver/nvidia/gpus" / device.name) or _text(device / "product_name")
    identity = f"{_number(device / 'vendor'):04x}:{_number(device / 'device'):04x}"
    return told or f"{_TITLES[vendor]} GPU {identity} at {device.name}"


def _nvidia_model(directory: Path) -> str:
    match = re.search(r"^Model:\s*(.+?)\s*$", _text(directory / "information"), re.MULTILINE)
    return match[1] if match else ""


def _nvidia_driver(root: Path) -> bool:
    return (root / "proc/driver/nvidia/version").exists() or (root / "dev/nvidia0").exists()


def _nvidia_without_pci(root: Path) -> list[Accelerator]:
    """Where sysfs is hidden (some containers), and NVIDIA's boards whose GPU is on no PCI bus (Tegra)."""
    models = [_nvidia_model(gpu) for gpu in _listed(root / "proc/driver/nvidia/gpus")]
    if not models and (root / "dev/nvidia0").exists():
        models = [""]
    if not models and any((root / "dev" / name).exists() for name in ("nvhost-gpu", "nvgpu")):
        models = ["NVIDIA Tegra"]
    return [Accelerator("nvidia", model or "NVIDIA GPU", False, True) for model in models]


def _wsl(root: Path) -> Iterator[Accelerator]:
    if (root / "dev/dxg").exists():
        if (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
            yield Accelerator("nvidia", "NVIDIA GPU (WSL2)", False, True)
        else:
            yield Accelerator("wsl", "GPU behind WSL2", True, True)


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    try:
        return int(_text(path), 0)
    except ValueError:
        return -1 if path.name == "vendor" else 0


def _target(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""


# --- what to build --------------------------------------------------------------------------------


def backend_for(accelerators: Sequence[Accelerator], tools: Collection[str], *, cpu: bool = False) -> BuildChoice:
    """What to build llama.cpp for. ``tools`` are those of ``nvcc``, ``hipcc`` and ``glslc`` that are installed.

    A Vulkan build needs ``glslc``; where it is missing the advice has the command that installs it.
    """
    discrete = [gpu for gpu in accelerators if not gpu.integrated]
    if cpu or not discrete:
        names = ", ".join(gpu.name for gpu in accelerators)
        return BuildChoice("cpu", f"Building for the CPU; {names} will not be used." if names else "")
    vendors = {gpu.vendor for gpu in discrete}
    if "apple" in vendors:
        return BuildChoice("metal", "")
    if "nvidia" in vendors and "nvcc" in tools:
        return BuildChoice("cuda", "")
    if "amd" in vendors and "nvidia" not in vendors and "hipcc" in tools:
        return BuildChoice("rocm", "")
    return BuildChoice("vulkan", _vulkan_advice(vendors, tools))


def _vulkan_advice(vendors: set[str], tools: Collection[str]) -> str:
    lines = []
    if "glslc" not in tools:
        lines.append(f"Vulkan needs its shader compiler: {_VULKAN_TOOLS}")
    if "nvidia" in vendors:
        lines.append(f"CUDA is usually faster, and needs nvcc: {_BUILDS['nvidia']}")
    elif "amd" in vendors:
        lines.append(f"ROCm may be faster, and needs hipcc: {_ROCM_TOOLS} && {_BUILD}")
    return " ".join(line + "." for line in lines)


# --- whether it is used ---------------------------------------------------------------------------


def judge(
    accelerators: Sequence[Accelerator], backends: Collection[str], devices: Sequence[Seen], *, cpu: bool
) -> Verdict:
    """Whether a node may start with what the library says of itself (its backends and devices).

    Never silently on the CPU: a discrete GPU that none of the library's devices can be is an error, unless ``cpu``.
    """
    discrete = [gpu for gpu in accelerators if not gpu.integrated]
    names = ", ".join(gpu.name for gpu in discrete)
    if cpu:
        return Verdict(None, "", f"Running on the CPU as asked; {names} is not used." if names else None)
    used = [device for device in devices if device.kind == "gpu" and "llvmpipe" not in device.description]
    if discrete and not used:
        has = ", ".join(sorted(backends)) or "none"
        error = f"this machine has {names}, and the installed llama.cpp cannot use it (its backends: {has})."
        return Verdict(error, _mend(discrete, backends), None)
    return Verdict(None, "", _note(accelerators, discrete, used))


def _mend(discrete: Sequence[Accelerator], backends: Collection[str]) -> str:
    """The command that makes the first of them usable."""
    gpu = discrete[0]
    built = {name.upper() for name in backends} & _USABLE_BY[gpu.vendor]
    steps = []
    if built or not gpu.driver:
        steps.append(_DRIVERS[gpu.vendor])
    if not built:
        steps.append(_BUILDS[gpu.vendor])
    return "; then: ".join(steps) + "; or start with --cpu."


def _note(accelerators: Sequence[Accelerator], discrete: Sequence[Accelerator], used: Sequence[Seen]) -> str | None:
    if len(used) < len(discrete):
        names = ", ".join(gpu.name for gpu in discrete)
        return f"Of {names} the installed llama.cpp uses only {', '.join(device.description for device in used)}."
    integrated = [gpu.name for gpu in accelerators if gpu.integrated]
    if integrated and not used:
        return f"{', '.join(integrated)} shares the processor's memory and is not used; the CPU runs the models."
    return None
