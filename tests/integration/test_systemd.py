"""The units are read, checked and scored by systemd's own tool."""

from __future__ import annotations

import ctypes.util
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode import errors
from tests.kit import confined
from tests.kit.smollm2 import smollm2_path

UNITS = Path(__file__).parents[2] / "systemd"
SYSTEM_UNITS = [("meshnode.service", 2.5), ("meshnode-gpu.service", 4.5)]
ALL_UNITS = ["meshnode.service", "meshnode-gpu.service", "user/meshnode.service"]

analyze = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(analyze is None, reason="needs systemd-analyze (Debian: apt-get install systemd)")

needs_seccomp = pytest.mark.skipif(
    analyze is None or ctypes.util.find_library("seccomp") is None,
    reason="needs systemd-analyze and libseccomp (Debian: apt-get install systemd libseccomp2)",
)


def installed(unit: str, folder: Path) -> Path:
    """A copy of ``unit`` that starts a program, and names a page, that exist here."""
    text = (UNITS / unit).read_text()
    text = re.sub(r"^(ExecStart=)\S+/meshnode ", rf"\g<1>{shutil.which('true')} ", text, flags=re.MULTILINE)
    text = re.sub(r"^Documentation=.*$", "Documentation=https://example.org/", text, flags=re.MULTILINE)
    copy = folder / Path(unit).name
    copy.write_text(text)
    return copy


def run_analyze(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """systemd-analyze with a runtime folder of its own, as it has no session here."""
    assert analyze is not None
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "cat"}
    return subprocess.run([analyze, *arguments], env=environ, capture_output=True, text=True, timeout=60)


@needs_analyze
@pytest.mark.parametrize("unit", ALL_UNITS)
def test_verify_finds_nothing_to_say(unit: str, tmp_path: Path) -> None:
    scope = ["--user"] if unit.startswith("user/") else []
    done = run_analyze(tmp_path, *scope, "verify", installed(unit, tmp_path))
    # An unknown key is only a warning to it, and hardening that is misspelt is none.
    assert (done.returncode, done.stderr.strip()) == (0, "")


@needs_analyze
@pytest.mark.parametrize(("unit", "most"), SYSTEM_UNITS)
def test_exposure_is_at_most_what_we_promise(unit: str, most: float, tmp_path: Path) -> None:
    threshold = f"--threshold={round(most * 10)}"
    done = run_analyze(tmp_path, "security", "--offline=true", threshold, installed(unit, tmp_path))
    assert done.returncode == 0, done.stdout[-2000:]


@needs_analyze
def test_the_exposure_check_can_fail(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={sys.executable}\n")
    assert run_analyze(tmp_path, "security", "--offline=true", "--threshold=45", bare).returncode != 0


@pytest.mark.parametrize("unit", ALL_UNITS)
def test_not_restarted_for_what_only_the_owner_can_mend(unit: str) -> None:
    owners = {e.exit_code for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, errors.OwnerError)}
    named = re.search(r"^RestartPreventExitStatus=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert named is not None
    codes = {int(code) for code in named[1].split()}
    assert codes <= owners
    # A full disk may empty; the rest of these stay as they are until someone acts.
    starts = {errors.ConfigError, errors.UnsafeBind, errors.PortInUse, errors.HomeUnusable, errors.HomeInUse}
    starts |= {errors.DamagedKey, errors.DamagedDatabase, errors.AcceleratorUnusable}
    assert codes == {kind.exit_code for kind in starts}


@pytest.mark.parametrize("unit", ALL_UNITS)
def test_no_core_dumps_and_nothing_readable_by_others(unit: str) -> None:
    lines = (UNITS / unit).read_text().splitlines()
    assert {"LimitCORE=0", "UMask=0077", "NoNewPrivileges=yes"} <= set(lines)


def test_the_gpu_unit_gives_up_only_what_gpu_drivers_need() -> None:
    full, gpu = (set((UNITS / unit).read_text().splitlines()) for unit, _ in SYSTEM_UNITS)
    given_up = {line for line in full - gpu if "=" in line and not line.startswith(("#", "Description", "ExecStart"))}
    assert given_up == {"PrivateDevices=yes", "MemoryDenyWriteExecute=yes"}


def under(unit: str, *arguments: str | Path) -> list[str | Path]:
    """A command line that runs Python with ``arguments`` under the system calls that ``unit`` allows."""
    return [sys.executable, confined.__file__, UNITS / unit, sys.executable, *arguments]


def test_filters_are_read_as_systemd_reads_them() -> None:
    sets = {"@default": {"exit"}, "@service": {"read", "setuid", "nice"}, "@privileged": {"setuid"}}
    unit = "SystemCallFilter=@service\nSystemCallFilter=~@privileged nice\nSystemCallFilter=seccomp\n"
    assert confined.allowed_calls(unit, sets.__getitem__) == {"exit", "read", "seccomp"}


@needs_seccomp
def test_the_filter_bites() -> None:
    refused = "import os, sys\ntry:\n    os.nice(1)\nexcept PermissionError:\n    sys.exit(7)\n"
    done = subprocess.run(under("meshnode.service", "-c", refused), timeout=60)
    assert done.returncode == 7


@needs_seccomp
@pytest.mark.model
@pytest.mark.parametrize("unit", [unit for unit, _ in SYSTEM_UNITS])
def test_a_node_starts_and_stops_under_the_units_rules(unit: str, tmp_path: Path) -> None:
    flags = ["--home", str(tmp_path / "home"), "--api", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", "--cpu"]
    command = under(unit, "-m", "meshnode", "up", *flags, "--model", smollm2_path(), "--json")
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MESHNODE_THREADS": "1", "PYTHONPATH": str(UNITS.parent)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline() or "{}")
        node.send_signal(signal.SIGTERM)
        _, log = node.communicate(timeout=60)
    assert node.returncode == 0, log[-2000:]
    assert ready["models"], log[-2000:]
