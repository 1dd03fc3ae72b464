"""What is made of what was seen, by example: what is fine, what is not, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshnode.cli import findings
from meshnode.cli.findings import Finding
from meshnode.client_records import ModelStatus
from meshnode.domain import ModelId
from meshnode.engine.hardware import Accelerator
from meshnode.engine.pipe import Device
from meshnode.engine.threads import Cores
from meshnode.errors import PortInUse

NVIDIA = Accelerator("nvidia", "NVIDIA H200", False, True)
IRIS = Accelerator("intel", "Intel GPU", True, True)
CPU = Device(name="CPU", description="Some CPU", kind="cpu", memory_total=8, memory_free=4)
CUDA = Device(name="CUDA0", description="NVIDIA H200", kind="gpu", memory_total=8, memory_free=4)
READY = ModelStatus(
    id=ModelId("tiny:q4_1"), state="ready", progress=1.0, context_length=8192, gpu_layers=0, layers=30,
    devices=("CPU",), threads=1, decode_tps=125.4, threads_reason="1 to decode: 2 cores",
)  # fmt: skip


def levels(found: list[Finding]) -> list[str]:
    """How bad, in order."""
    return [one.level for one in found]


def test_a_gpu_that_the_library_cannot_use_is_a_problem_with_the_command() -> None:
    found = findings.of_gpus([NVIDIA], ["CPU"], [CPU], cpu=False)
    assert found.level == "problem"
    assert "NVIDIA H200" in found.says
    assert "nvidia-cuda-toolkit" in found.mend


def test_a_gpu_that_is_used_and_one_that_is_not_wanted_are_fine() -> None:
    assert findings.of_gpus([NVIDIA], ["CPU", "CUDA"], [CPU, CUDA], cpu=False).level == "ok"
    assert findings.of_gpus([NVIDIA], ["CPU"], [CPU], cpu=True).level == "ok"
    assert findings.of_gpus([], ["CPU"], [CPU], cpu=False).level == "ok"
    assert findings.of_gpus([IRIS], ["CPU"], [CPU], cpu=False).level == "warning"


def test_threads_are_told_with_their_reason() -> None:
    (found,) = findings.of_threads(Cores(8, 8, None, 0.5), 0, {})
    assert "7 to begin with (8 cores, load 0.5)" in found.says


@pytest.mark.parametrize(
    ("cores", "chosen", "environ", "word"),
    [
        (Cores(8, 8, None, 9.0), 0, {}, "busy"),
        (Cores(8, 8, 2, 0.0), 6, {}, "wait for each other"),
        (Cores(8, 8), 0, {"OMP_NUM_THREADS": "64"}, "OMP_NUM_THREADS=64"),
    ],
    ids=["a busy box", "more than there are", "OpenMP's own settings"],
)
def test_what_makes_threads_slow_is_a_warning(cores: Cores, chosen: int, environ: dict[str, str], word: str) -> None:
    ok, bad = findings.of_threads(cores, chosen, environ)
    assert (ok.level, bad.level) == ("ok", "warning")
    assert word in bad.says
    assert bad.mend


@pytest.mark.parametrize(("free", "level"), [(1 << 40, "ok"), (1 << 30, "warning"), (1 << 20, "problem")])
def test_a_disk_that_fills_up_is_said_before_it_is_full(free: int, level: str) -> None:
    assert findings.of_disk(Path("/h"), free).level == level


def test_little_memory_is_a_warning() -> None:
    assert findings.of_memory(8 << 30, 6 << 30).level == "ok"
    assert findings.of_memory(8 << 30, 1 << 20).level == "warning"


@pytest.mark.parametrize(
    ("now", "synchronised", "level"),
    [(2e9, True, "ok"), (2e9, None, "ok"), (2e9, False, "warning"), (0.0, True, "problem")],
)
def test_a_clock_that_nobody_keeps_and_one_that_is_wrong(now: float, synchronised: bool | None, level: str) -> None:
    assert findings.of_clock(now, 1.9e9, synchronised).level == level


def test_too_few_files_are_a_warning() -> None:
    assert findings.of_files(1024, 3072).level == "warning"
    assert findings.of_files(1 << 20, 3072).level == "ok"


# --- models -------------------------------------------------------------------------------------


def test_a_loaded_model_tells_its_layers_speed_and_threads() -> None:
    found = findings.of_model(READY)
    assert levels(found) == ["ok", "ok"]
    assert "0 of 30 layers on a GPU (CPU), 8192 tokens of context, 125 tokens/s" in found[0].says
    assert "2 cores" in found[1].says


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"gpu_layers": 12}, "18 layers are on the CPU"),
        ({"restarts": 2}, "started again 2 times"),
        ({"sandbox": ("seccomp",), "sandbox_missing": ("landlock: not in this kernel",)}, "without landlock"),
        ({"memory": 3000, "memory_estimated": 1000}, "3 kB (1 kB estimated)"),
    ],
    ids=["split", "deaths", "sandbox", "estimate"],
)
def test_what_is_not_well_with_a_model_is_a_warning(change: dict[str, object], word: str) -> None:
    found = findings.of_model(msgspec.structs.replace(READY, **change))
    (bad,) = [one for one in found if one.level == "warning"]
    assert word in bad.says
    assert bad.mend


def test_a_failed_model_is_a_problem_and_others_are_not() -> None:
    failed = ModelStatus(id=ModelId("big:q4"), state="failed", reason="not enough memory")
    assert levels(findings.of_model(failed)) == ["problem"]
    for state in ("loading", "unloaded"):
        assert levels(findings.of_model(ModelStatus(id=ModelId("m"), state=state))) == ["ok"]


def test_the_estimate_that_was_right_is_fine() -> None:
    assert "warning" not in levels(
        findings.of_model(msgspec.structs.replace(READY, memory=1100, memory_estimated=1000))
    )


def test_an_error_is_a_problem_with_its_hint() -> None:
    found = findings.of_error("port", PortInUse("port 9337 is in use.", hint="Take another."))
    assert (found.level, found.says, found.mend) == ("problem", "port 9337 is in use.", "Take another.")
