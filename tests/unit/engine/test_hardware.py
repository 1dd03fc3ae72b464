"""Detection over sysfs trees built in a temporary folder, and the verdicts on what was found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from meshnode.engine.hardware import Accelerator, backend_for, detect, judge

NVIDIA = Accelerator("nvidia", "NVIDIA H200", False, True)
AMD = Accelerator("amd", "AMD GPU", False, True)
IRIS = Accelerator("intel", "Intel GPU", True, True)
APPLE = Accelerator("apple", "Apple GPU", False, True)


class Device(NamedTuple):
    """What a library says of one device."""

    kind: str
    description: str


CPU_DEVICE = Device("cpu", "a processor")
GPU_DEVICE = Device("gpu", "NVIDIA H200")


class Machine:
    """A root with the few files that detection looks at."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str = "") -> None:
        """Write one file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def pci(self, address: str, vendor: int, *, kind: object = 0x030000, driver: str = "", **files: str) -> None:
        """Add one PCI function; ``kind`` is its class."""
        folder = f"sys/bus/pci/devices/{address}"
        text = f"{kind:#08x}" if isinstance(kind, int) else str(kind)
        given = {"vendor": f"{vendor:#06x}", "device": "0x1234", "class": text} | files
        for name, text in given.items():
            self.file(f"{folder}/{name}", text + "\n")
        if driver:
            (self.root / folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def detect(self) -> list[Accelerator]:
        """What is found."""
        return detect(self.root, "Linux", "x86_64")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without anything."""
    return Machine(tmp_path)


def test_a_machine_without_anything_has_no_gpu(machine: Machine) -> None:
    assert machine.detect() == []


@pytest.mark.parametrize("vendor", [0x1AF4, 0x1B36, 0x15AD, 0x1234, 0x1013, 0x80EE, 0x1414, 0x1A03, 0x102B], ids=hex)
def test_virtual_adapters_and_consoles_of_servers_are_no_gpus(machine: Machine, vendor: int) -> None:
    machine.pci("0000:00:02.0", vendor)
    assert machine.detect() == []


def test_an_nvidia_card_is_named_by_its_driver(machine: Machine) -> None:
    machine.pci("0000:3b:00.0", 0x10DE, kind=0x030200, driver="nvidia")
    machine.pci("0000:3b:00.1", 0x10DE, kind=0x040300)
    machine.file("proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: \t\t NVIDIA H200\nIRQ: 1\n")
    assert machine.detect() == [NVIDIA]


def test_an_nvidia_card_without_its_driver_is_still_there(machine: Machine) -> None:
    machine.pci("0000:01:00.0", 0x10DE, driver="nouveau", device="0x2684")
    assert machine.detect() == [Accelerator("nvidia", "NVIDIA GPU 10de:2684 at 0000:01:00.0", False, False)]


def test_a_card_handed_to_a_virtual_machine_is_not_ours(machine: Machine) -> None:
    machine.pci("0000:01:00.0", 0x10DE, driver="vfio-pci")
    assert machine.detect() == []


def test_an_nvidia_card_is_seen_where_sysfs_is_hidden(machine: Machine) -> None:
    machine.file("dev/nvidia0")
    assert [(gpu.vendor, gpu.driver) for gpu in machine.detect()] == [("nvidia", True)]


def test_intels_graphics_on_the_first_bus_are_integrated_and_its_cards_are_not(machine: Machine) -> None:
    machine.pci("0000:00:02.0", 0x8086, driver="i915")
    machine.pci("0000:03:00.0", 0x8086, driver="xe")
    assert [(gpu.vendor, gpu.integrated, gpu.driver) for gpu in machine.detect()] == [
        ("intel", True, True),
        ("intel", False, True),
    ]


def test_amds_graphics_beside_the_processors_own_functions_are_integrated(machine: Machine) -> None:
    machine.pci("0000:03:00.0", 0x1002, driver="amdgpu", mem_info_vram_total=str(24 * 2**30))
    machine.pci("0000:03:00.1", 0x1002, kind=0x040300)
    machine.pci("0000:0b:00.0", 0x1002, driver="amdgpu", mem_info_vram_total=str(4 * 2**30))
    machine.pci("0000:0b:00.2", 0x1022, kind=0x108000)
    assert [gpu.integrated for gpu in machine.detect()] == [False, True]


@pytest.mark.parametrize(("address", "memory"), [("0000:00:01.0", 2**34), ("0000:05:00.0", 2**29)])
def test_amds_older_graphics_are_integrated(machine: Machine, address: str, memory: int) -> None:
    machine.pci(address, 0x1002, driver="amdgpu", mem_info_vram_total=str(memory))
    assert [gpu.integrated for gpu in machine.detect()] == [True]


def test_wsl_shows_nvidia_by_its_library(machine: Machine) -> None:
    machine.file("dev/dxg")
    assert [(gpu.vendor, gpu.integrated) for gpu in machine.detect()] == [("wsl", True)]
    machine.file("usr/lib/wsl/lib/libcuda.so.1")
    assert [(gpu.vendor, gpu.integrated) for gpu in machine.detect()] == [("nvidia", False)]


def test_apples_processors_have_a_gpu_and_intel_macs_count_as_having_none(tmp_path: Path) -> None:
    assert detect(tmp_path, "Darwin", "arm64") == [APPLE]
    assert detect(tmp_path, "Darwin", "x86_64") == []


@pytest.mark.parametrize("text", ["", "0xzz", "\x00", "12" * 2000])
def test_nonsense_in_sysfs_is_no_gpu_and_no_error(machine: Machine, text: str) -> None:
    machine.pci("0000:00:02.0", 0x8086, kind=text)
    machine.file("sys/bus/pci/devices/0000:00:03.0/vendor", text)
    assert machine.detect() == []


@pytest.mark.parametrize(
    ("gpus", "tools", "backend"),
    [
        ([], set(), "cpu"),
        ([IRIS], {"glslc"}, "cpu"),
        ([NVIDIA], {"nvcc", "glslc"}, "cuda"),
        ([NVIDIA], {"glslc"}, "vulkan"),
        ([NVIDIA, AMD], {"hipcc", "glslc"}, "vulkan"),
        ([AMD], {"hipcc"}, "rocm"),
        ([AMD, IRIS], {"glslc"}, "vulkan"),
        ([Accelerator("intel", "Arc", False, True)], set(), "vulkan"),
        ([APPLE], set(), "metal"),
    ],
)
def test_the_build_suits_the_machine(gpus: list[Accelerator], tools: set[str], backend: str) -> None:
    assert backend_for(gpus, tools).backend == backend
    assert backend_for(gpus, tools, cpu=True).backend == "cpu"


def test_an_nvidia_driver_without_nvcc_gets_vulkan_and_the_command_for_cuda() -> None:
    advice = backend_for([NVIDIA], {"glslc"}).advice
    assert "apt-get install nvidia-cuda-toolkit && ./scripts/run --rebuild" in advice
    assert "glslc" not in advice
    assert "apt-get install glslc" in backend_for([NVIDIA], set()).advice


@pytest.mark.parametrize("gpu", [NVIDIA, AMD, APPLE, Accelerator("intel", "Arc", False, True)])
def test_a_gpu_that_the_library_was_not_built_for_is_an_error_with_the_command(gpu: Accelerator) -> None:
    verdict = judge([gpu], ["CPU"], [CPU_DEVICE], cpu=False)
    assert verdict.error is not None
    assert gpu.name in verdict.error
    assert "./scripts/run --rebuild" in verdict.hint
    assert verdict.hint.endswith("or start with --cpu.")


def test_a_gpu_that_only_lacks_its_driver_is_not_answered_by_a_build() -> None:
    verdict = judge([NVIDIA._replace(driver=False)], ["CUDA", "CPU"], [CPU_DEVICE], cpu=False)
    assert verdict.error is not None
    assert "nvidia-driver" in verdict.hint
    assert "--rebuild" not in verdict.hint


def test_a_gpu_lacking_both_is_told_both() -> None:
    hint = judge([NVIDIA._replace(driver=False)], ["CPU"], [], cpu=False).hint
    assert hint.index("nvidia-driver") < hint.index("nvidia-cuda-toolkit")


def test_software_rendering_is_no_gpu() -> None:
    assert judge([AMD], ["Vulkan"], [Device("gpu", "llvmpipe (LLVM 17)")], cpu=False).error


def test_the_owner_may_ask_for_the_cpu() -> None:
    verdict = judge([NVIDIA], ["CPU"], [CPU_DEVICE], cpu=True)
    assert verdict.error is None
    assert verdict.note is not None
    assert "NVIDIA H200" in verdict.note


def test_a_gpu_in_use_needs_no_words() -> None:
    assert judge([NVIDIA], ["CUDA", "CPU"], [GPU_DEVICE, CPU_DEVICE], cpu=False) == (None, "", None)
    assert judge([], ["CPU"], [CPU_DEVICE], cpu=False) == (None, "", None)


def test_an_integrated_gpu_gets_one_line_and_a_second_unused_card_too() -> None:
    integrated = judge([IRIS], ["CPU"], [CPU_DEVICE], cpu=False)
    partly = judge([NVIDIA, AMD], ["CUDA", "CPU"], [GPU_DEVICE], cpu=False)
    assert integrated.error is None
    assert partly.error is None
    assert [len((verdict.note or "").splitlines()) for verdict in (integrated, partly)] == [1, 1]


def test_it_can_be_imported_before_anything_is_installed() -> None:
    root = Path(__file__).resolve().parents[3]
    source = "import sys; sys.path.insert(0, sys.argv[1]); import meshnode.engine.hardware"
    subprocess.run([sys.executable, "-I", "-S", "-c", source, str(root)], check=True, timeout=60)
