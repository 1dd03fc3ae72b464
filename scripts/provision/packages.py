"""This system's package manager, and what the things we need are called in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Which = Callable[[str], str | None]


@dataclass(frozen=True)
class Manager:
    """A package manager, and how it installs."""

    program: str
    install: str
    as_root: bool = True

    def names(self, need: str, python: str) -> list[str]:
        """Its packages for ``need``; ``python`` is the interpreter's ``3.11``, as Debian names packages by it."""
        name = _NAMES[need].get(self.program, "")
        return (name.replace("python3-", f"python{python}-") if self.program == "apt-get" else name).split()


_XCODE = "xcode-select --install"
_NAMES: Mapping[str, Mapping[str, str]] = {
    "venv": {"apt-get": "python3-venv", "dnf": "python3", "pacman": "python", "zypper": "python3", "apk": "python3"},
    "python-headers": {
        "apt-get": "python3-dev",
        "dnf": "python3-devel",
        "pacman": "python",
        "zypper": "python3-devel",
        "apk": "python3-dev",
        "brew": "python@3.12",
    },
    "cc": {
        "apt-get": "gcc libc6-dev",
        "dnf": "gcc",
        "pacman": "gcc",
        "zypper": "gcc",
        "apk": "build-base",
        "brew": _XCODE,
    },
    "c++": {
        "apt-get": "g++",
        "dnf": "gcc-c++",
        "pacman": "gcc",
        "zypper": "gcc-c++",
        "apk": "build-base",
        "brew": _XCODE,
    },
    "gmp": {
        "apt-get": "libgmp-dev",
        "dnf": "gmp-devel",
        "pacman": "gmp",
        "zypper": "gmp-devel",
        "apk": "gmp-dev",
        "brew": "gmp",
    },
    "glslc": {"apt-get": "glslc", "dnf": "glslc", "pacman": "shaderc", "zypper": "shaderc", "apk": "shaderc"},
    "vulkan": {
        "apt-get": "libvulkan-dev",
        "dnf": "vulkan-loader-devel",
        "pacman": "vulkan-headers vulkan-icd-loader",
        "zypper": "vulkan-devel",
        "apk": "vulkan-headers vulkan-loader-dev",
    },
    "spirv": {
        "apt-get": "spirv-headers",
        "dnf": "spirv-headers-devel",
        "pacman": "spirv-headers",
        "zypper": "spirv-headers",
        "apk": "spirv-headers",
    },
    "browser": {"apt-get": "chromium"},
    "browser-driver": {"apt-get": "chromium-driver"},
    "network": {"apt-get": "iproute2"},
    "systemd": {"apt-get": "systemd"},
}
"""What each thing we may need is called by each package manager."""

MANAGERS = (
    Manager("apt-get", "apt-get install -y"),
    Manager("dnf", "dnf install -y"),
    Manager("pacman", "pacman -S --needed"),
    Manager("zypper", "zypper install -y"),
    Manager("apk", "apk add"),
    Manager("brew", "brew install", as_root=False),
)
"""Asked in this order: a Linux with Homebrew on it is still advised in its own terms."""


@dataclass(frozen=True)
class System:
    """The facts about this machine that decide what is advised or done."""

    manager: Manager | None
    root: bool
    sudo: bool
    distribution: str

    def advice(self, need: str, python: str) -> str:
        """The one command that installs ``need`` here; empty where none is known."""
        names = [] if self.manager is None else self.manager.names(need, python)
        if self.manager is None or not names:
            return ""
        command = " ".join(names)
        if command == _XCODE:
            return command
        return (
            f"{'sudo ' if self.manager.as_root and not self.root and self.sudo else ''}{self.manager.install} {command}"
        )

    @property
    def installs_itself(self) -> bool:
        """Whether setting up may install packages by itself: as root on Debian or Ubuntu, nowhere else."""
        return self.root and self.manager is not None and self.manager.program == "apt-get"


def describe_system(*, root_folder: Path = Path("/"), which: Which = shutil.which, uid: int | None = None) -> System:
    """Reads what this system is."""
    manager = next((each for each in MANAGERS if which(each.program)), None)
    root = (os.geteuid() if uid is None else uid) == 0
    return System(manager, root, which("sudo") is not None, _distribution(root_folder / "etc" / "os-release"))


def _distribution(release: Path) -> str:
    try:
        lines = release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("ID", "").strip("\"'")
