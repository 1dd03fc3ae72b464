"""What some tests use and nobody needs to run a node: Chromium with its driver, systemd-analyze, and ip."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from provision.packages import System, describe_system
from provision.prerequisites import install_packages, python_version
from provision.screen import say

PROGRAMS = {
    "browser": ("chromium",),
    "browser-driver": ("chromedriver",),
    "systemd": ("systemd-analyze",),
    "network": ("ip",),
}
"""Package keys, and the programs each brings."""


def provide(environ: Mapping[str, str], system: System | None = None) -> None:
    """Installs what is missing as root on Debian in CI; elsewhere one line says how, and what is skipped without."""
    missing = [key for key, programs in PROGRAMS.items() if not all(shutil.which(each) for each in programs)]
    if not missing:
        return
    system = describe_system() if system is None else system
    if environ.get("CI") and system.installs_itself and system.distribution == "debian":
        install_packages(system, missing)
        return
    names = ", ".join(program for key in missing for program in PROGRAMS[key])
    advice = [system.advice(key, python_version()) for key in missing] if system.distribution == "debian" else []
    how = f" Install: {'; '.join(advice)}" if advice and all(advice) else ""
    say(f"Tests that need {names} will be skipped.{how}")
