"""The mesh's figures against their bars, as tables or as JSON. See ``scripts/bench_mesh --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmark.mesh_publish import MOST_S, Published, published
from benchmark.mesh_relay import LEAST_RATIO, MOST_ADDED_MS, FirstTokens, Rates, first_tokens, pair, rates
from benchmark.mesh_streams import LEAST_RATE, MOST_DELAY_MS, RATE, Level, search
from benchmark.nodes import NodeError, model_path
from benchmark.streams import LoadError
from meshnode import observe
from meshnode.config import LogSettings
from meshnode.errors import MeshnodeError

PARTS: Final = ("relay", "streams", "http", "publish")
FEWEST_HELD: Final = 600
LEVELS: Final = (100, 200, 400, 600, 800, 1000, 1200)
HTTP_LEVELS: Final = (50, 100, 200, 300, 400, 600)


def relay(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Figure 1: what relaying costs."""
    with pair(model_path(given.model)) as (provider, client):
        first = first_tokens(provider, client, given.rounds, given.requests)
        speeds = [rates(provider, client, streams, given.rounds, given.tokens) for streams in (1, 16)]
    console.print(first_table(first), rates_table(speeds))
    return {"first_token_ms": first._asdict(), "tokens_per_s": [speed._asdict() for speed in speeds]}


def first_table(found: FirstTokens) -> Table:
    """Times to a first token."""
    table = _table(
        f"Time to first token, {found.pairs} pairs (load {found.load:.1f})", "", "direct", "relayed", "added", "bar"
    )
    bar = f"≤ {MOST_ADDED_MS:g} ms {_mark(found.added_p50 <= MOST_ADDED_MS)}"
    for name, *times, end in (
        ("p50", found.direct_p50, found.relayed_p50, found.added_p50, bar),
        ("p99", found.direct_p99, found.relayed_p99, found.added_p99, ""),
    ):
        table.add_row(str(name), *(f"{time:.2f} ms" for time in times), str(end))
    return table


def rates_table(found: Sequence[Rates]) -> Table:
    """Tokens per second."""
    table = _table("Tokens per second", "streams", "direct", "relayed", "ratio", "rounds", "bar", "load")
    for one in found:
        spread = f"{min(one.rounds):.3f} to {max(one.rounds):.3f}"
        bar = f"≥ {LEAST_RATIO} {_mark(one.ratio >= LEAST_RATIO)}"
        speeds = (f"{one.direct:.1f}", f"{one.relayed:.1f}", f"{one.ratio:.3f}")
        table.add_row(str(one.streams), *speeds, spread, bar, f"{one.load:.1f}")
    return table


def streams(given: argparse.Namespace, console: Console, *, over_http: bool) -> list[dict[str, Any]]:
    """Figure 2: streams of a fixed rate; at the caller's dispatcher, or through its API."""
    levels = given.http_levels if over_http else given.levels
    found = search(levels, given.seconds, given.attempts, over_http=over_http)
    console.print(levels_table(found, over_http=over_http))
    return [level._asdict() | {"held": level.held} for level in found]


def levels_table(found: Sequence[Level], *, over_http: bool) -> Table:
    """Delays at each level."""
    where = "through the caller's API" if over_http else "at the caller's dispatcher"
    held = max((level.streams for level in found if level.held), default=0)
    bar = "" if over_http else f", bar ≥ {FEWEST_HELD} {_mark(held >= FEWEST_HELD)}"
    title = f"Streams of {RATE} tok/s {where}: {held} held (p99 < {MOST_DELAY_MS:g} ms, rate ≥ {LEAST_RATE}){bar}"
    columns = ("streams", "rate", "delay p50 / p99 / worst, ms", "CPU a token, caller / provider, µs", "load", "")
    table = _table(title, *columns)
    for one in found:
        delays = " / ".join(f"{value:.1f}" for value in (one.p50_ms, one.p99_ms, one.worst_ms))
        cpu = f"{one.caller_us:.1f} / {one.provider_us:.1f}"
        failed = f" ({one.failures} failed)" if one.failures else ""
        table.add_row(str(one.streams), f"{one.rate:.3f}", delays, cpu, f"{one.load:.1f}", _mark(one.held) + failed)
    return table


def publish(given: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Figure 3: from publishing to using."""
    found = published(given.nodes, given.tries)
    console.print(publish_table(found))
    return [one._asdict() for one in found]


def publish_table(found: Sequence[Published]) -> Table:
    """Seconds until a first token."""
    title = f"Published to first token, {found[0].nodes} nodes around a hub (load {found[0].load:.1f})"
    table = _table(title, "", "tries", "p50", "p95", "worst", "listed p50", "refused", "bar (p95)")
    for one in found:
        times = (f"{value:.2f} s" for value in (one.p50_s, one.p95_s, one.worst_s, one.listed_p50_s))
        table.add_row(
            one.what, str(one.tries), *times, str(one.refused), f"≤ {MOST_S:g} s {_mark(one.p95_s <= MOST_S)}"
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _mark(good: bool) -> str:
    return "[green]met[/green]" if good else "[red]missed[/red]"


def _first(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that nested nurseries make of it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench_mesh", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="what is measured")
    parser.add_argument("--model", help="relay: GGUF file to serve [SmolLM2, as the tests have it]")
    parser.add_argument("--rounds", type=int, default=5, help="relay: rounds, of which the medians are shown")
    parser.add_argument("--requests", type=int, default=40, help="relay: short requests a round, each way")
    parser.add_argument("--tokens", type=int, default=128, help="relay: tokens of each stream")
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS, help="streams: so many, until too many")
    parser.add_argument("--http-levels", type=int, nargs="+", default=HTTP_LEVELS, help="http: the same")
    parser.add_argument("--seconds", type=float, default=8.0, help="streams, http: how long each level is measured")
    parser.add_argument("--attempts", type=int, default=2, help="streams, http: how often a level may be tried")
    parser.add_argument("--nodes", type=int, default=8, help="publish: nodes, the hub and the asker among them")
    parser.add_argument("--tries", type=int, default=20, help="publish: tries of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")
    return parser.parse_args()


def main() -> None:
    """Measure and print; exits 1 with a line where a node does not do its part."""
    given = arguments()
    observe.configure_logging(LogSettings(level="critical"), sys.stderr)
    console = Console(quiet=given.json)
    measured: dict[str, Callable[[], object]] = {
        "relay": lambda: relay(given, console),
        "streams": lambda: streams(given, console, over_http=False),
        "http": lambda: streams(given, console, over_http=True),
        "publish": lambda: publish(given, console),
    }
    found: dict[str, object] = {
        "machine": {"cpu_count": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()}
    }
    try:
        for part in PARTS:
            if part in given.only:
                sys.stderr.write(f"{part} …\n")
                found[part] = measured[part]()
    except (NodeError, LoadError, MeshnodeError, ExceptionGroup) as error:
        sys.exit(str(_first(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    if given.json:
        print(json.dumps(found))
