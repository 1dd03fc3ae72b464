"""What a start learns of the machine, by a real probe of the installed library."""

from __future__ import annotations

import os
from pathlib import Path

from meshnode.engine.machine import NO_ENGINE, Machine, look_around
from meshnode.engine.pipe import Device
from meshnode.engine.probe import Probe


def machine(*devices: Device) -> Machine:
    return Machine(probe=Probe(backends=("CPU",), devices=devices, gpu_offload=False))


GPU = Device(name="CUDA0", description="a card", kind="gpu", memory_total=10, memory_free=7)
SMALL_GPU = Device(name="CUDA1", description="a card", kind="gpu", memory_total=10, memory_free=3)
CPU = Device(name="CPU", description="a processor", kind="cpu", memory_total=100, memory_free=90)


async def test_the_library_names_its_devices_and_backends() -> None:
    found = await look_around(os.environ, cpu=True)
    assert "CPU" in found.probe.backends
    assert any(device.kind == "cpu" for device in found.probe.devices)


def test_free_memory_is_the_largest_gpus_where_there_is_one() -> None:
    assert machine(CPU, SMALL_GPU, GPU).free_memory() == 7
    assert machine(CPU, GPU).accelerated


def test_free_memory_is_the_machines_where_there_is_no_gpu_and_what_is_cached_counts_as_free(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 6000 kB\nCached: 5900 kB\n")
    assert machine(CPU).free_memory(tmp_path) == 6000 * 1024
    assert not machine(CPU).accelerated


def test_free_memory_is_the_librarys_figure_where_the_system_has_none(tmp_path: Path) -> None:
    assert machine(CPU).free_memory(tmp_path / "nothing") == 90
    assert machine().free_memory(tmp_path / "nothing") == 0


def test_this_machine_has_memory() -> None:
    assert machine(CPU).free_memory() > 2**20 or not Path("/proc/meminfo").exists()


def test_a_node_without_an_engine_asks_nothing() -> None:
    assert NO_ENGINE.probe.devices == ()
    assert NO_ENGINE.note is None
