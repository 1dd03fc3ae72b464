"""meshnode beside llama-server: rounds, medians, gains against bars, as a table, JSON or a chart. See ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmark import chart, llama_server, loads
from benchmark.figures import FIGURES, LOADS, ONCE, OURS, THEIRS, Outcome, outcome
from benchmark.servers import Running, ServerError, Setup, interruptible, started
from benchmark.streams import LoadError

SETTLE_S: Final = 1.0
WIDTH: Final = 140
"""Columns of the table in a file or a pipe."""
QUICK: Final = {"tokens": 24, "prefix": 300, "long": 1500, "turn_tokens": 8, "schema_tokens": 32, "texts": 16}
"""Sizes that show in a minute or two a round that everything works; the gains are smaller than they would be."""


@dataclass
class Measured:
    """What the rounds gave: figures by key and server, what failed, seconds by load and server, load averages."""

    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    took_s: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    load_averages: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])
    began: float = field(default_factory=time.monotonic)

    def clock(self) -> str:
        """Minutes and seconds since the beginning."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes:02}:{seconds:02}"

    def take(self, name: str, load: str, server: Running, sizes: loads.Sizes) -> None:
        """Run one load and keep its figures; one that fails is said and stops nothing."""
        self.load_averages.append(os.getloadavg()[0])
        began = time.monotonic()
        try:
            found = loads.RUN[load](server, sizes)
        except (LoadError, OSError) as error:
            self.failures.append(f"{load}, {name}: {error}")
            found = {}
        for key, value in found.items():
            self.rounds.setdefault(key, {}).setdefault(name, []).append(value)
        self.took_s.setdefault(load, {}).setdefault(name, []).append(time.monotonic() - began)


def run_round(measured: Measured, name: str, number: int, setup: Setup, given: argparse.Namespace) -> None:
    """Start one server, put each load on it, stop it; embeddings last, where need be on a server of their own."""
    sizes = loads.Sizes(salt=number, **(QUICK if given.quick else {"tokens": given.tokens}))
    wanted = [load for load in loads.RUN if load in given.only and (number == 0 or load not in given.once)]
    program = None if name == OURS else given.server
    apart = [load for load in wanted if load == "embeddings" and program]
    together = [load for load in wanted if load not in apart]
    for each, kind in ((together, setup), (apart, replace(setup, embeddings=True))):
        if not each:
            continue
        try:
            with started(name, kind, program) as server:
                time.sleep(SETTLE_S)
                for load in each:
                    sys.stderr.write(f"{measured.clock()} round {number + 1} of {given.rounds}: {name}: {load}\n")
                    measured.take(name, load, server, sizes)
        except ServerError as error:
            measured.failures.append(str(error))


def run_rounds(setup: Setup, given: argparse.Namespace) -> Measured:
    """Every server once a round, the other first in every second round; one that does not start is said."""
    measured = Measured()
    try:
        for number in range(given.rounds):
            for name in given.sides if number % 2 == 0 else reversed(given.sides):
                run_round(measured, name, number, setup, given)
    except KeyboardInterrupt:
        measured.failures.append("interrupted: what was measured before stands above")
    return measured


def outcomes(measured: Measured, given: argparse.Namespace) -> list[Outcome]:
    """The rows that were asked for."""
    return [outcome(figure, measured.rounds) for figure in FIGURES if figure.load in given.only]


def report(measured: Measured, setup: Setup, given: argparse.Namespace) -> dict[str, Any]:
    """Everything as one object: medians, gains, bars, and the rounds behind them."""
    return {
        "machine": {"cpu_count": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()},
        "setup": {
            "model": setup.model.name, "threads": setup.threads, "context": setup.context, "slots": setup.slots,
            "gpu_layers": setup.gpu_layers, "kv": "unified", "tokens": given.tokens, "rounds": given.rounds,
            "quick": given.quick,
        },
        "figures": {
            one.figure.key: {
                "title": one.figure.title, "unit": one.figure.unit, "medians": dict(one.medians), "gain": one.gain,
                "bar": str(one.figure.bar) if one.figure.bar else None, "met": one.met,
            }
            for one in outcomes(measured, given)
        },
        "rounds": measured.rounds, "failures": measured.failures, "took_s": measured.took_s,
        "load_average": {"least": min(measured.load_averages), "most": max(measured.load_averages)},
    }  # fmt: skip


def described(measured: Measured, setup: Setup, given: argparse.Namespace) -> str:
    """One line: what was run, and how busy the machine was meanwhile."""
    low, high = min(measured.load_averages), max(measured.load_averages)
    kind = "quick, " if given.quick else ""
    return (
        f"{setup.model.name}, {kind}{setup.threads} thread{'s' if setup.threads > 1 else ''}, "
        f"median of {given.rounds}, load average {low:.1f} to {high:.1f}"
    )


def table(rows: Sequence[Outcome], title: str) -> Table:
    """The medians side by side, how many times better ours is, and the bars."""
    shown = Table(title=title)
    shown.add_column("")
    for heading in (OURS, THEIRS, "better by", "bar", ""):
        shown.add_column(heading, justify="right")
    for one in rows:
        cells = [f"{one.medians[n]:.4g} {one.figure.unit}" if n in one.medians else "–" for n in (OURS, THEIRS)]
        gain = "–" if one.gain is None else f"{one.gain:.3g} ×"
        verdict = "" if one.met is None else "[green]met[/green]" if one.met else "[red]missed[/red]"
        shown.add_row(one.figure.title, *cells, gain, str(one.figure.bar or ""), verdict)
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
    parser.add_argument("--context", type=int, default=16384, help="context in tokens, for all streams together")
    parser.add_argument("--slots", type=int, default=16, help="requests that run side by side")
    parser.add_argument("--gpu-layers", type=int, default=0, help="layers on the GPU; 0 is the CPU alone")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer of the plain streams")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--only", choices=LOADS, nargs="+", default=list(LOADS), metavar="ROW", help=", ".join(LOADS))
    parser.add_argument(
        "--once", choices=LOADS, nargs="*", default=list(ONCE), metavar="ROW",
        help=f"rows of the first round alone, because they are long [{' '.join(ONCE)}]",
    )  # fmt: skip
    parser.add_argument(
        "--sides", choices=[OURS, THEIRS], nargs="+", default=[OURS, THEIRS], help="measure one of both"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not what it is worth")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the figures and all rounds as JSON too")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="write the figures as a picture too")
    return parser.parse_args()


def llama_program(given: argparse.Namespace) -> Path:
    """Where llama-server is; exits with a line where it is not."""
    program: Path = llama_server.build(given.gpu) if given.build else given.server or llama_server.cached()
    if not program.is_file():
        sys.exit(f"There is no llama-server at {program}: name one with --server, or use --build.")
    return program


def main() -> None:
    """Measure, print and write; exits 1 where there is no llama-server to be had, or nothing could be measured."""
    given = arguments()
    interruptible()
    try:
        if THEIRS in given.sides:
            given.server = llama_program(given)
        setup = Setup(given.model.resolve(), given.threads, given.context, given.slots, given.gpu_layers)
        measured = run_rounds(setup, given)
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    rows, title = outcomes(measured, given), described(measured, setup, given)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table(rows, title))
    for failure in dict.fromkeys(measured.failures):
        sys.stderr.write(f"– {failure}\n")
    if given.json:
        given.json.write_text(json.dumps(report(measured, setup, given), indent=1), encoding="utf-8")
    if given.chart:
        given.chart.write_text(chart.draw(rows, title), encoding="utf-8")
    sys.exit(0 if measured.rounds else 1)
