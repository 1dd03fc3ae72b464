"""Runs ``langchain_standard.py`` and tells each test as a check."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

MOST_SAID = 400
OUTCOMES = {"passed": "passed", "failed": "failed", "skipped": "skipped"}


class Teller:
    """A plugin of pytest that tells each outcome as a line."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell a test's outcome once: that of its call, or of a set-up that did not get so far."""
        if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
            return
        said = ""
        if report.outcome != "passed":
            said = _words(report)
        name = report.nodeid.partition("::")[2].replace("::", " ").replace("Test", "", 1)
        told = {"check": name, "outcome": OUTCOMES[report.outcome], "said": said, "took_s": round(report.duration, 2)}
        sys.__stdout__.write("\n" + json.dumps(told) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


def _words(report: pytest.TestReport) -> str:
    """Why it did not pass."""
    if hasattr(report, "wasxfail"):
        return f"not of this model: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])[:MOST_SAID]
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr).split())[:MOST_SAID]


if __name__ == "__main__":
    here = Path(__file__).with_name("langchain_standard.py")
    words = [["-k", " or ".join(sys.argv[1:])]] if sys.argv[1:] else [[]]
    # The suite's own marks and fixtures; no cache beside the checkout, and nothing of the checkout's configuration.
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(here.parent)]
    # One event loop for all: the clients keep their connections, which end with the loop that made them.
    loops = ["asyncio_mode=auto", *(f"asyncio_default_{what}_loop_scope=session" for what in ("fixture", "test"))]
    options += [word for loop in loops for word in ("-o", loop)]
    pytest.main([str(here), *options, "--benchmark-disable", *words[0]], plugins=[Teller()])
