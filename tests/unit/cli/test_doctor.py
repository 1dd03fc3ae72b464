"""`meshnode doctor` on machines built in a temporary folder, with the node running and not; never a traceback."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from meshnode.cli import doctor
from meshnode.cli.doctor import Seen, Surroundings, examine
from meshnode.cli.findings import Finding
from meshnode.engine.pipe import Device
from meshnode.errors import OwnerError
from meshnode.storage.home import lock, prepare
from tests.kit.fakenode import STATUS, FakeNode
from tests.unit.cli.conftest import Shell

CPU = Device(name="CPU", description="Some CPU", kind="cpu", memory_total=8 << 30, memory_free=4 << 30)
SOUND = Seen(("CPU",), (CPU,))


def sound(_: Mapping[str, str]) -> Seen:
    """A library for the CPU."""
    return SOUND


def broken(_: Mapping[str, str]) -> Seen:
    """A library that cannot be loaded."""
    raise OwnerError("the engine's library cannot be used: no such file.", hint="Build it again.")


def crashing(_: Mapping[str, str]) -> Seen:
    """What nobody expects."""
    raise ZeroDivisionError


@pytest.fixture
def around(home: Path, tmp_path: Path) -> Surroundings:
    """A sound machine with two idle cores, and no node."""
    root = tmp_path / "root"
    files = {
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n",
        "proc/loadavg": "0.10 0.1 0.1 1/100 42\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Surroundings(home, {"MESHNODE_API": "127.0.0.1:0"}, root, 4e9, sound)


def of(found: list[Finding], topic: str) -> list[Finding]:
    """The findings on one topic."""
    return [one for one in found if one.topic == topic]


def add_nvidia(root: Path) -> None:
    """A card in the machine, its driver not loaded."""
    card = root / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    for name, text in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}.items():
        (card / name).write_text(text)


def test_a_sound_machine_has_no_problem(around: Surroundings) -> None:
    found = examine(around)
    assert [one for one in found if one.level == "problem"] == []
    assert "not running" in of(found, "node")[0].says
    assert "meshnode up --home" in of(found, "node")[0].says
    assert "6.1 GB of 8.2 GB" in of(found, "memory")[0].says
    assert "is made by the first start" in of(found, "home")[0].says
    assert not around.home.exists(), "it only looks"


def test_a_gpu_that_lies_idle_is_a_problem_with_the_command(around: Surroundings) -> None:
    add_nvidia(around.root)
    (gpu,) = of(examine(around), "GPU")
    assert gpu.level == "problem"
    assert "nvidia-driver" in gpu.mend
    assert "nvidia-cuda-toolkit" in gpu.mend


def test_with_cpu_that_gpu_is_as_wanted(around: Surroundings) -> None:
    add_nvidia(around.root)
    found = examine(around._replace(environ={**around.environ, "MESHNODE_CPU": "1"}))
    assert [one.level for one in of(found, "GPU")] == ["ok"]


def test_a_library_that_cannot_be_loaded_is_told_with_how_to_mend_it(around: Surroundings) -> None:
    (engine,) = of(examine(around._replace(probe=broken)), "engine")
    assert (engine.level, engine.mend) == ("problem", "Build it again.")


def test_a_check_that_crashes_is_a_finding(around: Surroundings) -> None:
    found = examine(around._replace(probe=crashing))
    assert "ZeroDivisionError" in of(found, "engine")[0].says
    assert of(found, "clock"), "the others are still made"


def test_settings_that_are_wrong_are_told_by_line(around: Surroundings) -> None:
    around.home.mkdir()
    (around.home / "config.toml").write_text("[engine]\ncontxt = 5\n")
    (settings,) = of(examine(around), "settings")
    assert settings.level == "problem"
    assert "line 2" in settings.says


def test_a_port_that_another_program_has_is_a_problem(around: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (port,) = of(examine(around._replace(environ={"MESHNODE_API": address})), "port")
    assert port.level == "problem"
    assert "meshnode up --api" in port.mend


def test_a_home_that_is_a_file_is_a_problem(around: Surroundings) -> None:
    around.home.write_text("")
    assert "problem" in [one.level for one in of(examine(around), "home")]


def test_a_node_that_does_not_answer_is_a_problem(around: Surroundings) -> None:
    with lock(prepare(around.home)):
        (node,) = of(examine(around), "node")
    assert node.level == "problem"
    assert "does not answer" in node.says


def test_a_running_node_is_asked_and_its_port_is_not_tried(around: Surroundings, node: FakeNode) -> None:
    node.json("GET /api/status", STATUS | {"fetching": [{"source": "default", "phase": "fetch", "progress": 0.37}]})
    found = examine(around._replace(probe=crashing))
    assert of(found, "port") == []
    assert "running, http://127.0.0.1:9337/v1" in of(found, "node")[0].says
    assert "fetching default, 37%" in of(found, "node")[1].says
    assert "0 of 30 layers" in of(found, "model smollm2-135m-instruct:q4_1")[0].says
    (failed,) = of(found, "model big:q4_k_m")
    assert (failed.level, failed.says) == ("problem", "not enough memory")
    assert "Some CPU" in of(found, "device")[0].says


def test_the_command_prints_lines_or_json_and_its_exit_code_says_whether_all_is_well(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHNODE_API", "127.0.0.1:0")
    monkeypatch.setattr(doctor, "probed", sound)
    monkeypatch.setattr(doctor, "detect", lambda *_: [])
    ran = shell("doctor")
    assert ran.code == 0
    assert "ok       engine: llama.cpp" in ran.out
    told = json.loads(shell("doctor", "--json").out)
    assert told["ok"] is True
    assert {"topic", "level", "says", "mend"} == told["findings"][0].keys()
    monkeypatch.setattr(doctor, "probed", broken)
    ran = shell("doctor")
    assert ran.code == 1
    assert "PROBLEM  engine: the engine's library cannot be used" in ran.out
    assert "           Build it again." in ran.out
    assert "Traceback" not in ran.out + ran.err


def test_this_machines_library_can_be_asked(home: Path) -> None:
    assert "CPU" in doctor.probed({}).backends
