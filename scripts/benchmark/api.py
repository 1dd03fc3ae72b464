"""What the API costs: HTTP beside the engine's worker driven directly, crowds, leavers, memory. See ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmark import api_loads, api_parse
from benchmark.api_worker import Worker, WorkerError, worker
from benchmark.figures import Bar
from benchmark.nodes import Node, NodeError, ended, model_path
from benchmark.servers import interruptible
from benchmark.streams import LoadError

CONTEXT: Final = 16384
WIDTH: Final = 120


class Row(NamedTuple):
    """A row of the table; ``load`` is what measures it."""

    load: str
    key: str
    title: str
    unit: str
    bar: Bar | None = None


ROWS: Final = (
    Row("parse", "parse_chat_ms", "12 k tokens, 12 tools, parsed and rendered: chat", "ms", Bar(most=20.0)),
    Row("parse", "parse_messages_ms", "the same: messages", "ms", Bar(most=20.0)),
    Row("parse", "parse_responses_ms", "the same: responses", "ms", Bar(most=20.0)),
    Row("sixteen", "worker_tokens_per_s", "16 streams, the worker driven directly", "tok/s"),
    Row("sixteen", "http_tokens_per_s", "16 streams through HTTP", "tok/s"),
    Row("sixteen", "http_share", "HTTP ÷ worker", "", Bar(least=0.97)),
    Row("first", "first_worker_ms", "first token, the worker driven directly, p50", "ms"),
    Row("first", "first_http_ms", "first token through HTTP, p50", "ms"),
    Row("first", "first_added_ms", "added to the first token, p50 of pairs", "ms", Bar(most=5.0)),
    Row("departed", "freed_stream_s", "client left a stream: slot free, longest", "s", Bar(most=1.0)),
    Row("departed", "freed_whole_s", "client left a one-shot call: slot free, longest", "s", Bar(most=1.0)),
    Row("crowd", "crowd_lost", "200 SSE clients, 20 tok/s each: lost", "", Bar(most=0.0)),
    Row("crowd", "crowd_rate", "200 SSE clients: tokens that came in time", "", Bar(least=0.99)),
    Row("crowd", "crowd_p50_ms", "200 SSE clients: added delay, p50", "ms"),
    Row("crowd", "crowd_p99_ms", "200 SSE clients: added delay, p99", "ms", Bar(most=50.0)),
    Row("crowd", "crowd_cpu_us", "200 SSE clients: the node's CPU a token", "µs"),
    Row("memory", "memory_mib", "after the requests: resident memory", "MiB"),
    Row("memory", "memory_growth_mib", "growth over the requests, by the second half's slope", "MiB", Bar(most=8.0)),
)
LOADS: Final = tuple(dict.fromkeys(row.load for row in ROWS))


def run(given: argparse.Namespace, folder: Path) -> tuple[dict[str, list[float]], list[str]]:
    """All loads that were asked for, in rounds; the figures by key, and what failed."""
    found: dict[str, list[float]] = {}
    failures: list[str] = []

    def take(load: str, measure: Callable[[], Mapping[str, float]]) -> None:
        if load not in given.only:
            return
        sys.stderr.write(f"{load} …\n")
        try:
            for key, value in measure().items():
                found.setdefault(key, []).append(value)
        except (LoadError, NodeError, WorkerError, OSError) as error:
            failures.append(f"{load}: {error}")

    take("parse", api_parse.measure)
    if {"sixteen", "first", "departed"} & set(given.only):
        with _both(folder, given.model) as (node, driven):
            for salt in range(1, given.rounds + 1):
                take("sixteen", lambda: api_loads.throughput(node, driven, salt, given.tokens))  # noqa: B023
                take("first", lambda: api_loads.first_token(node, driven, salt))  # noqa: B023
            take("departed", lambda: api_loads.departures(node, stream=True))
            take("departed", lambda: api_loads.departures(node, stream=False))
    for _ in range(given.rounds):
        take("crowd", lambda: api_loads.crowd(folder, given.model))
    take("memory", lambda: api_loads.growth(folder, given.model, given.requests))
    return found, failures


@contextmanager
def _both(folder: Path, model: Path) -> Iterator[tuple[Node, Worker]]:
    """A node, and a worker that nobody but the benchmark talks to: the same model, one thread each."""
    flags = ("--model", str(model), "--context", str(CONTEXT), "--slots", str(api_loads.STREAMS), "--threads", "1")
    node = Node("node", folder, *flags)
    with ended([node]), worker(model, context=CONTEXT, slots=api_loads.STREAMS) as driven:
        node.start()
        yield node, driven


def table(found: Mapping[str, Sequence[float]], title: str) -> Table:
    """The medians and the bars."""
    shown = Table(title=title)
    for heading in ("", "median", "rounds", "bar", ""):
        shown.add_column(heading, justify="left" if not heading else "right")
    for row in ROWS:
        values = found.get(row.key)
        if not values:
            continue
        median = statistics.median(values)
        met = None if row.bar is None else row.bar.met(median, None)
        verdict = "" if met is None else "[green]met[/green]" if met else "[red]missed[/red]"
        rounds = " ".join(f"{value:.3g}" for value in values) if len(values) > 1 else ""
        shown.add_row(row.title, f"{median:.4g} {row.unit}", rounds, str(row.bar or ""), verdict)
    return shown


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench_api",
        description="Measures what the API adds to the engine: the same requests through a node's HTTP and to a bare "
        "worker in turns; crowds of streams on an engine that keeps time; memory over many requests. Loopback only.",
    )
    parser.add_argument("--model", metavar="GGUF", help="GGUF file [SmolLM2, where scripts/test keeps it]")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer of the sixteen streams")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of the memory row")
    parser.add_argument("--only", choices=LOADS, nargs="+", default=list(LOADS), metavar="ROW", help=", ".join(LOADS))
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write all rounds as JSON too")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write; exits 1 where something failed or nothing was measured."""
    given = arguments()
    interruptible()
    try:
        given.model = model_path(given.model)
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as name:
            found, failures = run(given, Path(name))
    except (NodeError, WorkerError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    title = f"{given.model.name}, 1 engine thread, load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table(found, title))
    for failure in failures:
        sys.stderr.write(f"– {failure}\n")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.exit(0 if found and not failures else 1)
