"""Runs the programs people use against this checkout's node and prints what they got. See ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmark import llama_server
from benchmark.nodes import NodeError, model_path
from clientele import environments, servers
from clientele.checks.checklist import Target
from clientele.environments import Unavailable
from clientele.outcomes import FAILED, SKIPPED, Outcome, Results, run

OURS: Final = "meshnode"
THEIRS: Final = "llama-server"
CONTEXT: Final = 8192
Commands = Callable[[], list[str]]


def python_sdk(name: str) -> Commands:
    """The checks of an official Python package."""
    return lambda: [str(environments.python("sdks")), "-m", "clientele.checks", name]


def node_sdk(name: str) -> Commands:
    """The checks of an official package for Node, copied beside what they import."""

    def command() -> list[str]:
        folder = environments.npm("javascript")
        for script in (environments.HERE / "javascript").glob("*.mjs"):
            shutil.copy(script, folder)
        return ["node", str(folder / f"{name}.mjs")]

    return command


SDKS: Final[dict[str, Commands]] = {
    "openai (Python)": python_sdk("openai"),
    "openai (Node)": node_sdk("openai"),
    "anthropic (Python)": python_sdk("anthropic"),
    "anthropic (Node)": node_sdk("anthropic"),
}


def take(results: Results, server: str, target: Target, groups: dict[str, Commands], given: argparse.Namespace) -> None:
    """Run each group of checks against one server; a group that cannot be set up is skipped with the reason."""
    for group, command in groups.items():
        if given.only and not any(word in group.lower() for word in given.only):
            continue
        print(f"{server}: {group} …", file=sys.stderr, flush=True)
        try:
            line = command()
        except Unavailable as reason:
            results.add(group, server, Outcome("set up", SKIPPED, str(reason)))
            continue
        for outcome in run([*line, *given.check], target, given.folder):
            results.add(group, server, outcome)
            if outcome.outcome == FAILED:
                print(f"  failed: {outcome.check}: {outcome.said}", file=sys.stderr, flush=True)


def main() -> None:
    """Run what the command line asks for; status 1 where a check failed on our side."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = Results()
    columns = [OURS] if given.no_llama_server else [OURS, THEIRS]
    with _folder() as given.folder:
        try:
            model = model_path(given.model)
            with servers.ours(given.folder, model, CONTEXT) as target:
                take(results, OURS, target, SDKS, given)
            if THEIRS in columns:
                program = llama_server.cached()
                if not program.is_file():
                    sys.exit(f"There is no llama-server at {program}: scripts/bench_engine builds it.")
                with servers.theirs(given.folder, program, model, CONTEXT) as target:
                    take(results, THEIRS, target, SDKS, given)
        except (NodeError, servers.ServerFailed) as error:
            sys.exit(str(error))
    if given.json:
        Path(given.json).write_text(results.as_json())
    results.show(columns)
    sys.exit(1 if results.failures(OURS) else 0)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="meshnode-clients-") as folder:
        yield Path(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test_clients", description=__doc__)
    parser.add_argument(
        "--model", metavar="FILE", help="the model (default: SmolLM2, which scripts/setup --test fetches)"
    )
    parser.add_argument("--only", nargs="+", metavar="WORD", type=str.lower, help="clients whose name holds a word")
    parser.add_argument("--check", nargs="+", default=[], metavar="WORD", help="checks whose name holds a word")
    parser.add_argument("--no-llama-server", action="store_true", help="meshnode alone")
    parser.add_argument("--json", metavar="FILE", help="keep everything that was found as JSON too")
    return parser.parse_args()
