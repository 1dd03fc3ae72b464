"""What a confined process has no more, tried in one."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode.engine import landlock
from meshnode.engine.confine import Sandbox
from meshnode.engine.syscalls import MACHINES
from tests.kit import captive
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import write_tiny_gguf
from tests.kit.worker_process import ENVIRONMENT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")


def run(code: str, *fds: int) -> str:
    """What a Python process prints that confines itself first; its output is the last of ``fds``."""
    reader, writer = os.pipe()
    prelude = f"import ctypes, os, signal, sys\nfrom meshnode.engine.confine import *\nconfine({writer})\n"
    epilogue = f"\nos.write({writer}, str(found).encode())\n"
    arguments = [sys.executable, "-c", prelude + code + epilogue]
    subprocess.run(arguments, env=ENVIRONMENT, pass_fds=[writer, *fds], check=True, timeout=60)
    os.close(writer)
    with os.fdopen(reader) as output:
        return output.read()


def test_other_descriptors_are_closed() -> None:
    secret = os.open("/", os.O_RDONLY)
    try:
        code = f"""
try:
    os.fstat({secret})
    found = "open"
except OSError:
    found = "closed"
"""
        assert run(code, secret) == "closed"
    finally:
        os.close(secret)


def test_standard_input_and_output_lead_nowhere() -> None:
    code = "print('lost', flush=True)\nfound = (os.read(0, 9), os.path.samestat(os.fstat(1), os.stat(os.devnull)))"
    assert run(code) == "(b'', True)"


def test_no_core_file() -> None:
    assert run("found = resource.getrlimit(resource.RLIMIT_CORE)") == "(0, 0)"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_not_dumpable_and_killed_with_its_parent() -> None:
    code = """
libc = ctypes.CDLL(None)
death = ctypes.c_int()
libc.prctl(2, ctypes.byref(death))
found = (libc.prctl(3), death.value)
"""
    assert run(code) == "(0, 9)"


def test_signals_of_the_terminal_are_ignored() -> None:
    code = """
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
found = "alive"
"""
    assert run(code) == "alive"


@pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux's")
def test_it_goes_first_when_memory_runs_out() -> None:
    assert run("found = open('/proc/self/oom_score_adj').read().strip()") == "500"


def test_limits_hold() -> None:
    code = """
names = ("NOFILE", "FSIZE", "DATA", "CORE")
found = [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names]
"""
    files, size, data, core = map(int, run(code).strip("[]").split(","))
    assert 0 < files <= 4096
    assert core == 0
    if not Path("/dev/dri").exists() and not Path("/dev/nvidiactl").exists():
        assert size == 16 << 20
        assert data > 2**28 or sys.platform != "linux"


@pytest.mark.parametrize(("gpus", "kept"), [([], (16 << 20, 1024 * 1024)), (["/dev/kfd"], None)])
def test_what_a_gpus_driver_may_need_is_kept(gpus: list[str], kept: tuple[int, int] | None, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       1000 kB\nMemFree:   1 kB\nSwapTotal:  24 kB\n")
    code = f"""
import pathlib, resource
from meshnode.engine import confine
set_limits = {{}}
confine.resource.setrlimit = lambda which, limits: set_limits.update({{which: limits[0]}})
confine.limit_resources({gpus}, pathlib.Path({str(meminfo)!r}))
found = set_limits.get(resource.RLIMIT_FSIZE), set_limits.get(resource.RLIMIT_DATA)
"""
    assert run(code) == str(kept or (None, None))


# --- the sandbox, tried from inside -------------------------------------------------------------

filtered = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="no filter for this architecture"
)
ABOUT = {"layers", "missing", "unrefused"}


def landlocked() -> bool:
    """Whether this kernel has Landlock."""
    try:
        return sys.platform == "linux" and landlock.version() > 0
    except OSError:
        return False


def somebodys(folder: Path) -> Path:
    """A folder with a secret in it."""
    folder.mkdir()
    (folder / "secret").write_text("mine")
    return folder


@filtered
def test_of_what_an_intruder_would_try_nothing_works_and_the_model_answers(tmp_path: Path) -> None:
    model, folder = write_tiny_gguf(tmp_path / "tiny.gguf"), somebodys(tmp_path / "home")
    found = captive.tried(model, folder)
    refused = set(captive.attempts(model, folder))
    if not landlocked():
        refused = {name for name in refused if found[name] != "done"} | {"fork", "run a program", "socket AF_INET"}
    assert {name: found[name] for name in refused if found[name] not in ("EPERM", "EACCES")} == {}
    going = found.keys() - captive.attempts(model, folder).keys() - ABOUT
    assert {name: found[name] for name in going} == dict.fromkeys(going, "done")
    assert found["unrefused"] == ""
    assert {"pdeathsig", "no-new-privs", "rlimits", "seccomp"} <= set(found["layers"].split())
    assert bool(found["missing"]) != landlocked()


def test_without_the_sandbox_the_same_works(tmp_path: Path) -> None:
    model, folder = write_tiny_gguf(tmp_path / "tiny.gguf"), somebodys(tmp_path / "home")
    found = captive.tried(model, folder, "--no-sandbox")
    assert found.pop("become a program") == "ENOENT"
    assert found.pop("layers") in ("pdeathsig", "")
    others = {name for name in found if "parent's" in name or "stranger's" in name}  # these need a right besides
    assert {name: outcome for name, outcome in found.items() if outcome != "done"} == {"missing": ""} | {
        name: found[name] for name in others if found[name] != "done"
    }


@filtered
@pytest.mark.model
def test_a_real_model_answers_from_inside(tmp_path: Path) -> None:
    found = captive.tried(smollm2_path(), somebodys(tmp_path / "home"))
    assert found["answer with the model's template"] == "done"
    assert found["read a file"] == ("EACCES" if landlocked() else "done")


# --- where the kernel has less --------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="these layers are Linux's")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_layer_that_the_kernel_has_not_is_missed_and_named(code: int) -> None:
    def refuse(*_: int) -> int:
        raise OSError(code, os.strerror(code))

    sandbox = Sandbox(on=True, call=refuse)
    sandbox.close_in("/nowhere/model.gguf", {})
    assert sandbox.layers == []
    assert sandbox.missing == [f"landlock: {os.strerror(code)}"]


@pytest.mark.skipif(sys.platform != "linux", reason="these layers are Linux's")
def test_without_a_filter_the_rest_holds() -> None:
    code = """
import errno
def refuse(*_):
    raise OSError(errno.EINVAL, "this kernel has none")
sandbox = Sandbox(on=True, call=refuse)
sandbox.begin()
found = sandbox.layers, sandbox.missing
"""
    assert run(code) == "(['no-new-privs', 'rlimits'], ['seccomp: this kernel has none'])"


def test_off_is_off() -> None:
    sandbox = Sandbox(on=False)
    sandbox.begin()
    sandbox.close_in("/nowhere/model.gguf", {})
    assert (sandbox.layers, sandbox.missing) == ([], [])
