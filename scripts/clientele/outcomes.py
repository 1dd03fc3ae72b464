"""What programs said of their checks, and the table of it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.nodes import environment
from clientele.checks.checklist import TARGET, Target

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
PROGRAM_S: Final = 1800.0
WIDTH: Final = 150
NOWHERE: Final = "http://127.0.0.1:9"
"""A proxy that is not there: what a client would send beyond this machine ends here."""
ALONE: Final = {
    "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "http_proxy": NOWHERE, "https_proxy": NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false", "DO_NOT_TRACK": "1",
}  # fmt: skip
SIGNS: Final = {PASSED: "[green]passed[/green]", FAILED: "[red]FAILED[/red]", SKIPPED: "[yellow]skipped[/yellow]"}


@dataclass(frozen=True)
class Outcome:
    """One check of one program on one server."""

    check: str
    outcome: str
    said: str = ""
    took_s: float = 0.0


@dataclass
class Results:
    """Outcomes by group (a client), check and server, in the order they came."""

    rows: dict[str, dict[str, dict[str, Outcome]]] = field(default_factory=dict)

    def add(self, group: str, server: str, outcome: Outcome) -> None:
        """Keep one."""
        self.rows.setdefault(group, {}).setdefault(outcome.check, {})[server] = outcome

    def failures(self, server: str) -> int:
        """How many checks failed on ``server``."""
        return self._count(server, FAILED)

    def _count(self, server: str, kind: str) -> int:
        return sum(
            found[server].outcome == kind for group in self.rows.values() for found in group.values() if server in found
        )

    def summary(self, server: str) -> str:
        """How many passed, of how many."""
        passed, failed, skipped = (self._count(server, kind) for kind in (PASSED, FAILED, SKIPPED))
        return f"{server}: {passed} of {passed + failed} passed" + (f", {skipped} skipped" if skipped else "")

    def as_json(self) -> str:
        """Everything, for other programs."""
        plain = {
            group: {check: {server: asdict(one) for server, one in found.items()} for check, found in checks.items()}
            for group, checks in self.rows.items()
        }
        return json.dumps(plain, indent=1)

    def show(self, servers: Sequence[str], console: Console | None = None) -> None:
        """The table, what was said by those that did not pass, and the sums."""
        console = console or Console(width=None if os.isatty(1) else WIDTH)
        for group, checks in self.rows.items():
            table = Table("check", *servers, title=group, title_justify="left", expand=False)
            for check, found in checks.items():
                table.add_row(escape(check), *(SIGNS[found[s].outcome] if s in found else "—" for s in servers))
            console.print(table)
        for server in servers:
            for group, checks in self.rows.items():
                for check, found in checks.items():
                    if server in found and found[server].said:
                        console.print(f"{server} · {group} · {check}: {found[server].said}", markup=False)
        for server in servers:
            console.print(self.summary(server), style="bold")


def run(
    command: Sequence[str], target: Target, folder: Path, extra: Mapping[str, str] | None = None
) -> Iterator[Outcome]:
    """The outcomes that a program tells on stdout as JSON lines, as they come; one that breaks off is a failure."""
    aim = {TARGET: json.dumps(asdict(target)), "PYTHONPATH": str(SCRIPTS)}
    variables = environment() | aim | ALONE | dict(extra or {})
    log = folder / "client.log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, env=variables, cwd=folder
        )
    try:
        yield from _told(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode:
        words = " ".join(log.read_text(errors="replace").split())[-300:]
        yield Outcome("the program runs to its end", FAILED, f"status {process.returncode}: {words}")


def _told(process: subprocess.Popen[bytes]) -> Iterator[Outcome]:
    assert process.stdout is not None
    deadline, held = time.monotonic() + PROGRAM_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            read = os.read(process.stdout.fileno(), 65536)
            if not read:
                process.wait(30)
                return
            *lines, held = (held + read).split(b"\n")
            yield from (Outcome(**one) for line in lines if (one := _outcome(line)) is not None)
    yield Outcome("the program runs to its end", FAILED, f"not within {PROGRAM_S:.0f} s")


def _outcome(line: bytes) -> dict[str, Any] | None:
    """A line that tells of a check; other lines are a program's own chatter."""
    if not line.startswith(b'{"check"'):
        return None
    found: dict[str, Any] = json.loads(line)
    return found


SCRIPTS: Final = Path(__file__).parents[1]
