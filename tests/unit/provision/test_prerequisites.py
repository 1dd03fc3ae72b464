"""What is missing is told, one line each, before anything else fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.faults import MissingPrerequisite
from provision.packages import MANAGERS, System
from provision.prerequisites import Need, check, check_disk, compiler_flags, gpu_needs, needs
from tests.unit.provision.checkout import path_with, script

DEBIAN_USER = System(MANAGERS[0], root=False, sudo=True, distribution="debian")
DEBIAN_ROOT = System(MANAGERS[0], root=True, sudo=False, distribution="debian")


def absent(key: str, title: str) -> Need:
    return Need(key, title, lambda: False)


def test_every_missing_thing_has_its_line_and_its_command() -> None:
    missing = [absent("gmp", "GMP headers (gmp.h)"), absent("c++", "C++17 compiler")]
    with pytest.raises(MissingPrerequisite) as caught:
        check(DEBIAN_USER, {}, lambda _: missing)
    assert caught.value.lines == (
        "Missing: GMP headers (gmp.h). Install: sudo apt-get install -y libgmp-dev",
        "Missing: C++17 compiler. Install: sudo apt-get install -y g++",
    )
    assert caught.value.exit_code == 40


def test_what_only_a_gpu_build_needs_can_be_done_without() -> None:
    with pytest.raises(MissingPrerequisite) as caught:
        check(DEBIAN_USER, {}, lambda _: [absent("glslc", "glslc")])
    assert "--cpu" in caught.value.lines[-1]


def test_root_on_debian_installs_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    script(tmp_path / "bin/apt-get", f'echo "$@" >> "{log}"\n')
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin")["PATH"])
    check(DEBIAN_ROOT, {}, lambda _: [Need("gmp", "GMP", log.exists)])
    assert log.read_text().splitlines() == ["update", "install -y --reinstall --no-install-recommends libgmp-dev"]
    assert "running: apt-get install -y --reinstall --no-install-recommends libgmp-dev" in capsys.readouterr().err


def test_what_is_still_missing_after_installing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path / "bin/apt-get", "echo Unable to locate package; exit 100\n")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin")["PATH"])
    with pytest.raises(MissingPrerequisite):
        check(DEBIAN_ROOT, {}, lambda _: [absent("gmp", "GMP")])
    assert "Unable to locate package" in capsys.readouterr().err


def test_a_compiler_that_sees_no_gmp_is_found_out(tmp_path: Path) -> None:
    compiler = script(tmp_path / "cc", 'case "$*" in *-lgmp*) exit 1;; esac\nexit 0\n')
    present = {need.key: need.present() for need in needs({"CC": str(compiler), "CXX": str(compiler)})}
    assert present["cc"]
    assert present["c++"]
    assert not present["gmp"]


def test_a_vulkan_build_needs_its_tools_and_others_bring_theirs(tmp_path: Path) -> None:
    nothing = script(tmp_path / "cc", "exit 1\n")
    assert {need.key for need in gpu_needs("vulkan", {"CC": str(nothing)}) if not need.present()} >= {"vulkan", "spirv"}
    assert gpu_needs("cuda", {}) == []


def test_macos_compilers_are_told_where_gmp_lies(tmp_path: Path) -> None:
    (tmp_path / "opt/homebrew/include").mkdir(parents=True)
    (tmp_path / "opt/homebrew/include/gmp.h").touch()
    flags = compiler_flags({"CFLAGS": "-O2"}, system="darwin", root=tmp_path)
    assert flags == {"CFLAGS": f"-I{tmp_path}/opt/homebrew/include -O2", "LDFLAGS": f"-L{tmp_path}/opt/homebrew/lib"}
    assert compiler_flags({}, system="linux", root=tmp_path) == {}


def test_a_full_disk_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"needs 2\.0 GB .* 0\.1 GB are free"):
        check_disk(tmp_path, 2_000_000_000, "Building", free=100_000_000)
    check_disk(tmp_path, 1, "Building")
