"""Runs the programs people use against this checkout's node and prints what they got. See ``--help``."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmark import llama_server
from benchmark.nodes import NodeError, environment, model_path
from clientele import environments, pasted, servers
from clientele.agents import longmodel, runs
from clientele.checks.checklist import Target
from clientele.environments import Unavailable
from clientele.outcomes import ALONE, FAILED, PASSED, SKIPPED, Outcome, Results, run

OURS: Final = "meshnode"
THEIRS: Final = "llama-server"
CONTEXT: Final = 8192
Command = Callable[[], list[str]]


def of_python(lock: str, *words: str) -> Command:
    """A module that an environment's Python runs."""
    return lambda: [str(environments.python(lock)), "-m", *words]


def of_node(name: str) -> Command:
    """The checks of an official package for Node, copied beside what they import."""

    def command() -> list[str]:
        folder = environments.npm("javascript")
        for script in (environments.HERE / "javascript").glob("*.mjs"):
            shutil.copy(script, folder)
        return ["node", str(folder / f"{name}.mjs")]

    return command


SDKS: Final[dict[str, Command]] = {
    "openai (Python)": of_python("sdks", "clientele.checks", "openai"),
    "openai (Node)": of_node("openai"),
    "anthropic (Python)": of_python("sdks", "clientele.checks", "anthropic"),
    "anthropic (Node)": of_node("anthropic"),
}
FRAMEWORKS: Final[dict[str, Command]] = {
    "LangChain's standard tests": of_python("frameworks", "clientele.frameworks.standard_tests"),
    "litellm": of_python("frameworks", "clientele.frameworks.litellm_trips"),
    "pydantic-ai": of_python("frameworks", "clientele.frameworks.pydantic_ai_trips"),
    "openai-agents": of_python("frameworks", "clientele.frameworks.agents_trips"),
    "LlamaIndex": of_python("elders", "clientele.frameworks.llama_index_trips"),
    "instructor": of_python("elders", "clientele.frameworks.instructor_trips"),
}


class Run:
    """What one start of the script does, and what it found."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self._given = given
        self._folder = folder
        self._model = model_path(given.model)
        self.results = Results()

    def ours(self) -> None:
        """Everything against this checkout. Raises NodeError."""
        with servers.ours(self._folder, self._model, CONTEXT) as target:
            for group, command in (SDKS | FRAMEWORKS).items():
                self._program(OURS, group, command, target)
            self._snippets(target)
            self._agents(runs.ON_SMALL, target.api, target.model)
        if any(self._wanted(agent.name) for agent in runs.AGENTS):
            long = longmodel.write(self._model, self._folder / "long.gguf")
            with servers.node(self._folder, "long", long, "--context", str(longmodel.CONTEXT)) as url:
                self._agents(runs.ON_LONG, url, servers.listed(url))

    def theirs(self) -> None:
        """The SDKs' checks against llama-server. Raises ServerFailed."""
        program = llama_server.cached()
        if not program.is_file():
            raise servers.ServerFailed(f"There is no llama-server at {program}: scripts/bench_engine builds it.")
        with servers.theirs(self._folder, program, self._model, CONTEXT) as target:
            for group, command in SDKS.items():
                self._program(THEIRS, group, command, target)

    def _wanted(self, group: str) -> bool:
        return not self._given.only or any(word in group.lower() for word in self._given.only)

    def _keep(self, server: str, group: str, outcome: Outcome) -> None:
        self.results.add(group, server, outcome)
        if outcome.outcome == FAILED:
            print(f"  failed: {outcome.check}: {outcome.said}", file=sys.stderr, flush=True)

    def _each(self, server: str, group: str, found: Callable[[], Iterator[Outcome]]) -> None:
        """Keep what a group finds; one that cannot be set up is skipped with the reason."""
        if not self._wanted(group):
            return
        print(f"{server}: {group} …", file=sys.stderr, flush=True)
        try:
            for outcome in found():
                self._keep(server, group, outcome)
        except Unavailable as reason:
            self._keep(server, group, Outcome("set up", SKIPPED, str(reason)))

    def _program(self, server: str, group: str, command: Command, target: Target) -> None:
        self._each(server, group, lambda: run([*command(), *self._given.check], target, self._folder))

    def _agents(self, checks: dict[str, runs.Check], url: str, model: str) -> None:
        for agent in runs.AGENTS:
            self._each(
                OURS, agent.name,
                lambda agent=agent: runs.outcomes(agent, checks, url, model, self._folder, self._given.check),  # type: ignore[misc]
            )  # fmt: skip

    def _snippets(self, target: Target) -> None:
        places: dict[str, Callable[[], tuple[list[str], Path]]] = {
            "curl": lambda: (pasted.command("curl"), self._folder),
            "python": lambda: (pasted.command("python", environments.python("sdks")), self._folder),
            "javascript": lambda: (pasted.command("javascript"), environments.npm("javascript")),
        }
        for language, place in places.items():
            self._each(OURS, f"snippets: {language}", lambda: self._pasted(language, *place(), target.api))  # noqa: B023

    def _pasted(self, language: str, command: list[str], folder: Path, url: str) -> Iterator[Outcome]:
        for snippet in pasted.snippets(language):
            if self._given.check and not any(word in snippet.name for word in self._given.check):
                continue
            wrong = pasted.verdict(snippet, url, folder, command, environment() | ALONE)
            yield Outcome(snippet.name, FAILED if wrong else PASSED, wrong)


def main() -> None:
    """Run what the command line asks for; status 1 where a check failed on our side."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    columns = [OURS] if given.no_llama_server else [OURS, THEIRS]
    with tempfile.TemporaryDirectory(prefix="meshnode-clients-") as folder:
        try:
            all_of_it = Run(given, Path(folder))
            all_of_it.ours()
            if THEIRS in columns:
                all_of_it.theirs()
        except (NodeError, servers.ServerFailed, subprocess.SubprocessError) as error:
            sys.exit(str(error))
    results = all_of_it.results
    if given.json:
        Path(given.json).write_text(results.as_json())
    results.show(columns)
    sys.exit(1 if results.failures(OURS) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test_clients", description=__doc__)
    parser.add_argument("--model", metavar="FILE", help="the model (default: SmolLM2; scripts/setup --test fetches it)")
    parser.add_argument("--only", nargs="+", metavar="WORD", type=str.lower, help="clients whose name holds a word")
    parser.add_argument("--check", nargs="+", default=[], metavar="WORD", help="checks whose name holds a word")
    parser.add_argument("--no-llama-server", action="store_true", help="meshnode alone")
    parser.add_argument("--json", metavar="FILE", help="keep everything that was found as JSON too")
    return parser.parse_args()
