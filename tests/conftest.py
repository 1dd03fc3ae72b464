"""What holds for all tests: what a machine may lack, and what is said about tests that were skipped."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import pytest
from hypothesis import settings

if not os.environ.get("CI"):  # there hypothesis has a profile of its own: the same cases each time, no deadline
    settings.register_profile("meshnode", deadline=None)  # a busy machine is no defect of the code under test
    settings.load_profile("meshnode")

STRICT = bool(os.environ.get("CI")) and os.geteuid() == 0
"""As root in CI nothing may be skipped for want of a right or a program: there it would go unseen."""


def lacking(mark: str) -> str:
    """Why tests marked ``mark`` cannot run here; empty where they can."""
    if mark == "root" and os.geteuid() != 0:
        return "needs root"
    if mark == "browser" and not (shutil.which("chromium") and shutil.which("chromedriver")):
        return "needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what cannot run here, each with its reason."""
    if STRICT:
        return
    reasons = {mark: lacking(mark) for mark in ("root", "browser")}
    for item in items:
        for mark, reason in reasons.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Ends with every reason for which tests were skipped, and how many; that none was is worth a line too."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(_reason(report) for report in reports)
    terminalreporter.section("skipped tests")
    if not reasons:
        terminalreporter.write_line("none")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} x {reason}")


def _reason(report: pytest.TestReport) -> str:
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)
