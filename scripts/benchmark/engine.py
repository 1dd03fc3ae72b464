"""meshnode beside llama-server: rounds, medians, ratios, as a table or as JSON. See ``scripts/bench_engine --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmark import llama_server
from benchmark.servers import ServerError, Setup, started
from benchmark.streams import LoadError, measure, prompts

OURS, THEIRS = "meshnode", "llama-server"
SETTLE_S = 1.0
Rounds = dict[str, dict[str, list[float]]]
"""By figure, by server: one number per round."""


class Figure(NamedTuple):
    """How a figure is shown: what it is called, its unit, and whether more is better."""

    title: str
    unit: str
    more_is_better: bool


def figures(streams: Sequence[int]) -> dict[str, Figure]:
    """What is measured, in the table's order."""
    of_load: dict[str, Figure] = {}
    for count in streams:
        plural = f"{count} stream{'s' if count > 1 else ''}"
        of_load[f"tokens_per_s_{count}"] = Figure(f"{plural}: tokens", "tok/s", True)
        of_load[f"first_token_ms_{count}"] = Figure(f"{plural}: time to first token", "ms", False)
    return of_load | {
        "rss_mib": Figure("resident, idle (RSS)", "MiB", False),
        "pss_mib": Figure("resident, idle (PSS)", "MiB", False),
        "start_s": Figure("start to first answer", "s", False),
    }


def run_round(
    name: str, program: Path | None, setup: Setup, given: argparse.Namespace, number: int
) -> dict[str, float]:
    """Start one server, measure it, stop it."""
    found: dict[str, float] = {}
    with started(name, setup, program) as server:
        found["start_s"] = server.start_s
        time.sleep(SETTLE_S)
        memory = server.memory()
        found["rss_mib"] = memory.rss / 2**20
        if memory.pss is not None:
            found["pss_mib"] = memory.pss / 2**20
        for count in given.streams:
            load = measure(server.url, prompts(count, 100 * number + count), given.tokens)
            found[f"tokens_per_s_{count}"] = load.tokens_per_s
            found[f"first_token_ms_{count}"] = 1000 * load.first_token_s
    return found


def run_rounds(servers: Mapping[str, Path | None], setup: Setup, given: argparse.Namespace) -> Rounds:
    """Every server once a round, the other first in every second round."""
    rounds: Rounds = {}
    for number in range(given.rounds):
        order = list(servers) if number % 2 == 0 else list(reversed(list(servers)))
        for name in order:
            sys.stderr.write(f"round {number + 1} of {given.rounds}: {name}\n")
            for figure, value in run_round(name, servers[name], setup, given, number).items():
                rounds.setdefault(figure, {}).setdefault(name, []).append(value)
    return rounds


def report(rounds: Rounds, setup: Setup, given: argparse.Namespace) -> dict[str, object]:
    """Everything as one object: medians, their ratio, and the rounds behind them."""
    found: dict[str, object] = {}
    for key in figures(given.streams):
        if key not in rounds:
            continue
        medians = {name: statistics.median(values) for name, values in rounds[key].items()}
        ratio = medians[OURS] / medians[THEIRS] if {OURS, THEIRS} <= medians.keys() else None
        found[key] = {"medians": medians, "ratio": ratio, "rounds": rounds[key]}
    return {
        "machine": {"cpu_count": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()},
        "setup": {
            "model": setup.model.name, "threads": setup.threads, "context": setup.context, "slots": setup.slots,
            "gpu_layers": setup.gpu_layers, "kv": "unified", "tokens": given.tokens, "rounds": given.rounds,
        },
        "figures": found,
    }  # fmt: skip


def table(rounds: Rounds, setup: Setup, given: argparse.Namespace) -> Table:
    """The medians side by side; a ratio is meshnode's over llama-server's."""
    title = f"{setup.model.name}, {setup.threads} threads, {given.tokens} tokens a stream, median of {given.rounds}"
    shown = Table(title=title)
    shown.add_column("")
    for heading in (OURS, THEIRS, "ratio", "better"):
        shown.add_column(heading, justify="right")
    for key, figure in figures(given.streams).items():
        medians = {name: statistics.median(values) for name, values in rounds.get(key, {}).items()}
        cells = [f"{medians[name]:.1f} {figure.unit}" if name in medians else "–" for name in (OURS, THEIRS)]
        ratio = f"{medians[OURS] / medians[THEIRS]:.3f}" if len(medians) == 2 else "–"
        shown.add_row(figure.title, *cells, ratio, "more" if figure.more_is_better else "less")
    return shown


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench_engine",
        description="Compares meshnode with llama-server: same model, threads, context and KV mode, through the HTTP "
        "API of each. One server runs at a time; rounds alternate; figures are medians.",
    )
    named = os.environ.get("MESHNODE_BENCH_LLAMA_SERVER")
    server_help = "llama-server's program [MESHNODE_BENCH_LLAMA_SERVER, else what --build made]"
    parser.add_argument("--server", type=Path, default=named, help=server_help)
    parser.add_argument("--build", action="store_true", help="build llama-server first, into the cache folder")
    parser.add_argument("--gpu", metavar="BACKEND", help="with --build: ggml's name of a GPU backend, such as CUDA")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="CPU threads of each")
    parser.add_argument("--context", type=int, default=8192, help="context in tokens, for all streams together")
    parser.add_argument("--gpu-layers", type=int, default=0, help="layers on the GPU; 0 is the CPU alone")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16], help="streams side by side")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--only", choices=[OURS, THEIRS], help="measure one of the two")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    return parser.parse_args()


def llama_program(given: argparse.Namespace) -> Path:
    """Where llama-server is; exits with a line where it is not."""
    program: Path = llama_server.build(given.gpu) if given.build else given.server or llama_server.cached()
    if not program.is_file():
        sys.exit(f"There is no llama-server at {program}: name one with --server, or use --build.")
    return program


def main() -> None:
    """Measure and print; exits 1 with a line where a server does not do its part."""
    given = arguments()
    servers: dict[str, Path | None] = {OURS: None, THEIRS: None}
    try:
        if given.only != OURS:
            servers[THEIRS] = llama_program(given)
        if given.only:
            servers = {given.only: servers[given.only]}
        setup = Setup(given.model.resolve(), given.threads, given.context, max(given.streams), given.gpu_layers)
        rounds = run_rounds(servers, setup, given)
    except (ServerError, LoadError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    if given.json:
        print(json.dumps(report(rounds, setup, given)))
    else:
        Console().print(table(rounds, setup, given))
