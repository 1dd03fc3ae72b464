"""What came of the kills, as a table: one column for each number of streams."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from harness.judge import CHECKS, MOST_OUTPUT, MOST_PROMPT, Judge, Stake


class Round(NamedTuple):
    """One number of streams: ``starts`` are seconds from a start to the greeting, ``lost_at`` the provider's deaths."""

    streams: int
    took_s: float
    kills: Counter[str]
    judge: Judge
    stakes: Sequence[Stake]
    starts: Sequence[float]
    lost_at: Sequence[float]


def show(rounds: Sequence[Round], seed: int) -> None:
    """Print the table, and a line for each kind of breach."""
    console = Console(highlight=False, width=120)
    table = Table(title=f"settlement under SIGKILL, seed {seed}", title_justify="left")
    table.add_column("")
    for each in rounds:
        table.add_column(f"{each.streams} at a time", justify="right")
    for lines in zip(*map(_lines, rounds), strict=True):
        table.add_row(lines[0][0], *(value for _, value in lines))
    console.print(table)
    for each in rounds:
        for example in each.judge.examples:
            console.print(f"{each.streams} at a time: {example}", markup=False)


def _lines(of: Round) -> Iterator[tuple[str, str]]:
    judge, kills = of.judge, of.kills
    total = kills["consumer"] + kills["provider"] + kills["both"]
    points = [kills[name] for name in ("Met", "Paying", "Signed", "Stored", "Confirmed")]
    yield "kills", str(total)
    yield "  of the consumer, the provider, both", f"{kills['consumer']}, {kills['provider']}, {kills['both']}"
    yield "  at a point of the code, not of time", str(sum(points))
    yield "    greeted, paying, signed, stored, confirmed", ", ".join(map(str, points))
    yield "run time", f"{of.took_s:.0f} s"
    yield "from start to greeting, mean / p99 / max", _spread(of.starts, " s", 2)
    ends = Counter(end.how.partition(":")[0] if end else "reader killed" for end in judge.ends.values())
    yield "requests", str(len(judge.ends))
    for how in ("finished", "left", "failed", "refused", "reader killed"):
        yield f"  {how}", str(ends[how])
    yield "provider killed: until the answer failed", _spread(list(_detections(of)), " s", 3)
    yield "receipts acknowledged by the consumer", str(judge.receipts["consumer"])
    yield "receipts acknowledged by the provider", str(judge.receipts["provider"])
    yield "  of these brought by a greeting, not by a tick", str(judge.brought)
    yield "receipts signed when the kill came, never stored", str(judge.unseen)
    cut = [stake for stake in of.stakes if stake.cut]
    rest = [stake for stake in of.stakes if not stake.cut]
    yield "requests cut after something was delivered", str(len(cut))
    yield f"  output unpaid (at most {MOST_OUTPUT})", _spread([stake.output for stake in cut])
    yield f"  prompt unpaid (at most {MOST_PROMPT})", _spread([stake.prompt for stake in cut])
    yield "  output unpaid per kill, mean", f"{sum(s.output for s in cut) / max(1, total):.1f}"
    yield "requests not cut: output unpaid", _spread([stake.output for stake in rest])
    yield "at risk at any moment, max: output", str(judge.most_at_risk.output)
    yield "at risk at any moment, max: prompt", str(judge.most_at_risk.prompt)
    for check in CHECKS:
        yield f"must be 0: {check}", str(judge.counts[check])


def _detections(of: Round) -> Iterator[float]:
    """Seconds from each death of the provider alone to the end of the answers it was giving."""
    for request, end in of.judge.ends.items():
        if end is not None and end.how.startswith("failed"):
            at = bisect_right(of.lost_at, end.at) - 1
            if at >= 0 and of.judge.asked[request] < of.lost_at[at]:
                yield end.at - of.lost_at[at]


def _spread(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    """Mean, 99th percentile, most."""
    if not values:
        return "none"
    ranked = sorted(values)
    p99 = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    whole = 0 if not unit else digits
    return f"{sum(values) / len(values):.{digits}f} / {p99:.{whole}f} / {ranked[-1]:.{whole}f}{unit}"
