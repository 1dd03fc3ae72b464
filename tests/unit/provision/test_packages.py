"""What a user of each system is told to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.packages import System, describe_system


def system(program: str, *, uid: int = 1000, sudo: bool = True, folder: Path = Path("/nowhere")) -> System:
    present = {program, "sudo"} if sudo else {program}
    return describe_system(root_folder=folder, which=lambda name: name if name in present else None, uid=uid)


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("apt-get", "sudo apt-get install -y libgmp-dev"),
        ("dnf", "sudo dnf install -y gmp-devel"),
        ("pacman", "sudo pacman -S --needed gmp"),
        ("zypper", "sudo zypper install -y gmp-devel"),
        ("apk", "sudo apk add gmp-dev"),
        ("brew", "brew install gmp"),
    ],
)
def test_one_command_for_each_system(program: str, command: str) -> None:
    assert system(program).advice("gmp", "3.11") == command


def test_root_needs_no_sudo_and_none_is_named_where_there_is_none() -> None:
    assert system("apt-get", uid=0).advice("c++", "3.11") == "apt-get install -y g++"
    assert system("apk", sudo=False).advice("c++", "3.11") == "apk add build-base"


def test_debian_names_python_packages_by_version() -> None:
    assert system("apt-get", uid=0).advice("venv", "3.12") == "apt-get install -y python3.12-venv"


def test_the_compiler_of_macos_comes_by_its_own_command() -> None:
    assert system("brew").advice("cc", "3.12") == "xcode-select --install"


def test_an_unknown_system_gets_no_command() -> None:
    assert system("emerge").advice("gmp", "3.11") == ""


def test_packages_are_installed_unasked_only_as_root_with_apt() -> None:
    assert system("apt-get", uid=0).installs_itself
    assert not system("apt-get", uid=1000).installs_itself
    assert not system("dnf", uid=0).installs_itself


def test_the_distribution_is_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="X"\nID="debian"\n')
    assert system("apt-get", folder=tmp_path).distribution == "debian"
