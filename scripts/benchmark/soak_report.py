"""What ``scripts/soak`` found, and what of it is as it must be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from benchmark.figures import slope
from benchmark.soak_judge import CLOSE, NEAR_TIE

MiB: Final = 1 << 20
WARM_UP: Final = 0.25
"""The first share of the samples says how memory fills, not whether it leaks."""
MOST_GROWTH_MIB: Final = 16.0
"""Of the line through the other samples, from its beginning to its end."""
SHOWN: Final = 20


class Sample(NamedTuple):
    """Resident bytes of the daemon and of its workers, ``at`` seconds after the beginning."""

    at: float
    daemon: int
    workers: int


@dataclass
class Checks:
    """The counts of a soak.

    ``margins`` are those of greedy answers that differ from what they were alone; ``drifts`` how far log-probabilities
    moved before that, one number for each greedy answer.
    """

    asked: Counter[str] = field(default_factory=Counter)
    finishes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    equal: int = 0
    left: int = 0
    tokens: int = 0
    samples: list[Sample] = field(default_factory=list)
    rest: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON holds it, with the verdicts."""
        return vars(self) | {"checks": [one._asdict() for one in checked(self)]}


class Check(NamedTuple):
    """One thing that must hold, what was found, and whether it does."""

    title: str
    found: str
    right: bool


def growth(samples: list[Sample], of: str) -> tuple[float, float]:
    """MiB an hour, and MiB from the first to the last sample, on the line through those after the warm-up."""
    warm = samples[int(WARM_UP * len(samples)) :]
    if not warm:
        return 0.0, 0.0
    rise = slope([(sample.at, getattr(sample, of) / MiB) for sample in warm])
    return 3600 * rise, rise * (warm[-1].at - warm[0].at)


def checked(checks: Checks) -> list[Check]:
    """The verdicts."""
    far = [margin for margin in checks.margins if margin > NEAR_TIE]
    close = sum(margin <= CLOSE for margin in checks.margins)
    compared = checks.equal + len(checks.margins)
    found = [
        Check("answers right: form, ends, no word of a neighbour", f"{len(checks.faults)} faults", not checks.faults),
        Check(
            "greedy answers equal to their lone runs",
            f"{checks.equal} of {compared}; {len(checks.margins) - len(far)} part at a near-tie (margin ≤ {NEAR_TIE}; "
            f"{close} of them ≤ {CLOSE}), {len(far)} elsewhere; widest margin {max(checks.margins, default=0.0):.3f}, "
            f"log-probabilities moved by {max(checks.drifts, default=0.0):.3f} at most",
            not far and compared > 0,
        ),
        Check(
            "at rest in the end",
            ", ".join(f"{key} {value}" for key, value in checks.rest.items()),
            bool(checks.rest) and not any(checks.rest.values()),
        ),
    ]
    for of in ("daemon", "workers"):
        hourly, whole = growth(checks.samples, of)
        last = getattr(checks.samples[-1], of) / MiB if checks.samples else 0.0
        said = f"{hourly:+.1f} MiB/h, {whole:+.1f} MiB on the whole, {last:.0f} MiB in the end"
        found.append(Check(f"memory flat: {of}", said, whole <= MOST_GROWTH_MIB))
    return found


def lines(checks: Checks) -> list[str]:
    """The report for a person."""
    asked = ", ".join(f"{kind} {count}" for kind, count in checks.asked.most_common())
    ends = ", ".join(f"{reason} {count}" for reason, count in checks.finishes.most_common())
    errors = ", ".join(f"{code} {count}" for code, count in checks.errors.most_common())
    seconds = checks.samples[-1].at if checks.samples else 0.0
    found = [
        f"{checks.asked.total()} requests in {seconds / 60:.1f} minutes: {asked}",
        f"{checks.left} left before the end; {checks.tokens} tokens in whole answers; ends: {ends}",
        f"errors by code: {errors or 'none'}",
    ]
    found += [f"{'✓' if one.right else '✗'} {one.title}: {one.found}" for one in checked(checks)]
    found += [f"  fault: {fault}" for fault in checks.faults[:SHOWN]]
    if len(checks.faults) > SHOWN:
        found.append(f"  and {len(checks.faults) - SHOWN} more")
    return found
