"""What a shell sees of a command line that went wrong: one line, the right exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from meshnode import __version__
from meshnode.cli.main import cli
from meshnode.errors import DiskFull, HomeInUse, PortInUse
from tests.kit.fakenode import STATUS, FakeNode
from tests.unit.cli.conftest import Shell

CANARY = "zebra canary"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Put an exception here and ``meshnode status`` raises it."""
    raised: list[BaseException] = []

    def fail(_context: click.Context) -> None:
        raise raised[0]

    monkeypatch.setattr(cli.commands["status"], "invoke", fail)
    return raised


def test_version_is_printed(shell: Shell) -> None:
    assert shell("--version") == (0, f"meshnode {__version__}\n", "")


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_takes_home_and_json_and_says_so(shell: Shell, command: str) -> None:
    ran = shell(command, "--help")
    assert ran.code == 0
    assert "--home" in ran.out
    assert "--json" in ran.out


def test_what_is_no_command_is_told_with_the_usage(shell: Shell) -> None:
    ran = shell("surf")
    assert ran.code == 2
    assert "surf" in ran.err


@pytest.mark.parametrize(
    "words", [("models", "add", "\udcff.gguf"), ("pull", "\udcff"), ("rm", "\udcff"), ("up", "--model", "\udcff")]
)
def test_an_argument_that_is_no_text_is_refused(shell: Shell, node: FakeNode, words: tuple[str, ...]) -> None:
    ran = shell(*words)
    assert ran.code == 2
    assert r"'\udcff" in ran.err
    assert node.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("models",),
        ("pull",),
        ("rm", "x"),
        ("models", "scan"),
        ("chat",),
        ("stop",),
        ("id",),
        ("peers",),
        ("credits",),
        ("join", "x"),
        ("leave",),
        ("serve",),
        ("serve", "x"),
        ("unserve", "x"),
    ],
)
def test_without_a_node_every_command_says_what_to_do(shell: Shell, home: Path, words: tuple[str, ...]) -> None:
    ran = shell(*words)
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err.startswith("meshnode: ")
    assert f"meshnode up --home {home}" in ran.err
    assert ran.err.count("\n") == 1


def test_the_home_of_the_flag_wins_over_the_variables(shell: Shell, node: FakeNode, tmp_path: Path) -> None:
    node.json("GET /api/status", STATUS)
    assert shell("status").code == 0
    assert shell("status", "--home", str(tmp_path / "other")).code == 3


def test_a_wrong_setting_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHNODE_MODLE", "x")
    ran = shell("up")
    assert ran.code == 10
    assert ran.err == "meshnode: The environment: MESHNODE_MODLE is not a setting. Did you mean MESHNODE_MODEL?\n"


# --- errors of all kinds --------------------------------------------------------------------------


def test_an_error_of_the_tree_is_its_line_and_its_exit_code(shell: Shell, failing: list[BaseException]) -> None:
    failing.append(PortInUse("Port 9337 is taken.\n", hint="Use --api."))
    assert shell("status") == (12, "", "meshnode: Port 9337 is taken. Use --api.\n")


def test_it_is_found_inside_a_group(shell: Shell, failing: list[BaseException]) -> None:
    failing.append(BaseExceptionGroup("x", [ExceptionGroup("y", [HomeInUse("Taken.")]), KeyboardInterrupt()]))
    assert shell("status") == (14, "", "meshnode: Taken.\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("x", [KeyboardInterrupt()]), click.Abort()])
def test_ctrl_c_is_130_without_words(shell: Shell, failing: list[BaseException], error: BaseException) -> None:
    failing.append(error)
    ran = shell("status")
    assert ran.code == 130
    assert (ran.out + ran.err).strip() == ""


def test_an_unexpected_error_is_one_line_and_its_place_is_written_down_without_its_text(
    shell: Shell, failing: list[BaseException], home: Path
) -> None:
    home.mkdir()
    failing.append(ZeroDivisionError(CANARY))
    ran = shell("status")
    crash = (home / "crash.log").read_text()
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "ZeroDivisionError" in ran.err
    assert "Traceback" not in ran.err
    assert "test_main.py" in crash
    assert "ZeroDivisionError" in crash
    assert CANARY not in crash + ran.err
    assert (home / "crash.log").stat().st_mode & 0o077 == 0


def test_without_a_home_it_is_written_down_elsewhere(
    shell: Shell, failing: list[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing.append(ZeroDivisionError())
    ran = shell("status")
    (crash,) = tmp_path.glob("*crash.log")
    assert str(crash) in ran.err


def test_a_developer_can_have_the_traceback(
    shell: Shell, failing: list[BaseException], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    monkeypatch.setenv("MESHNODE_DEBUG", "1")
    failing.append(ZeroDivisionError(CANARY))
    assert f"ZeroDivisionError: {CANARY}" in shell("status").err


def test_a_message_cannot_steer_the_terminal(shell: Shell, failing: list[BaseException]) -> None:
    failing.append(PortInUse("red \x1b[31m\x07alert"))
    assert "\x1b" not in shell("status").err


def test_a_reader_that_leaves_is_no_crash(node: FakeNode) -> None:
    node.json("GET /api/status", STATUS | {"backends": ["x" * 1000] * 1000})
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-m", "meshnode", "status", "--json", "--home", str(node.home)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, env=clean, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == b""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_behind_the_output_is_said(node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    line = [sys.executable, "-m", "meshnode", "status", "--home", str(node.home)]
    with open("/dev/full", "wb") as stdout:
        done = subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == DiskFull.exit_code
    assert done.stderr.startswith(b"meshnode: No space is left")
    assert done.stderr.count(b"\n") == 1


def test_a_closed_output_is_no_crash(node: FakeNode) -> None:
    node.json("GET /api/status", STATUS)
    line = ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-m", "meshnode", "status", "--home", str(node.home)]
    done = subprocess.run(line, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
