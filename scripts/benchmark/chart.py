"""The table of ``scripts/bench_engine`` as a picture: one bar a figure, how many times better, and the mark to reach.

Scalable Vector Graphics 1.1, written by hand: shapes and text, nothing that needs a library or a network. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from benchmark.figures import OURS, THEIRS, Outcome

ROW: Final = 34
TOP: Final = 92
LABELS: Final = 400
PLOT: Final = 420
WIDTH: Final = LABELS + PLOT + 330
LEAST: Final = 0.25
MOST: Final = 64.0
TICKS: Final = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
COLOURS: Final = {True: "#2e7d32", False: "#c62828", None: "#607d8b"}
"""Met, missed, without a bar."""


def draw(outcomes: Sequence[Outcome], title: str) -> str:
    """The picture's text. Figures with a gain over llama-server get a bar; the others their values alone."""
    height = TOP + ROW * len(outcomes) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, f"{OURS} beside {THEIRS}", size=18, weight="bold"),
        _text(16, 50, title, colour="#555555"),
        _text(LABELS, 72, f"how many times better than {THEIRS} (logarithmic); ▼ the bar to reach", colour="#555555"),
    ]
    parts += [_tick(value, height) for value in TICKS]
    parts += [part for number, one in enumerate(outcomes) for part in _row(one, TOP + ROW * number)]
    return "\n".join([*parts, "</svg>", ""])


def position(gain: float) -> float:
    """Where a gain lies, in pixels from the left: logarithmic, and at the edge for what lies beyond it."""
    share = math.log(min(max(gain, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LABELS + PLOT * share


def _tick(value: float, height: int) -> str:
    x = position(value)
    colour = "#000000" if value == 1 else "#dddddd"
    line = f'<line x1="{x:.1f}" y1="{TOP - 12}" x2="{x:.1f}" y2="{height - 34}" stroke="{colour}"/>'
    return line + _text(x, height - 16, f"{value:g}×", anchor="middle", colour="#555555")


def _row(one: Outcome, y: int) -> list[str]:
    """Title, bar with its mark, and the values with what was to be reached."""
    parts = [_text(LABELS - 12, y + 15, one.figure.title, anchor="end")]
    if one.gain is not None:
        left, right = sorted((position(1), position(one.gain)))
        width = max(right - left, 2)
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 2}" width="{width:.1f}" height="18" fill="{COLOURS[one.met]}" rx="2"/>'
        )
    if one.figure.bar and one.figure.bar.gain is not None:
        parts.append(_text(position(one.figure.bar.gain), y + 2, "▼", anchor="middle", size=11))
    values = " / ".join(f"{one.medians[name]:.4g}" if name in one.medians else "–" for name in (OURS, THEIRS))
    parts.append(_text(LABELS + PLOT + 14, y + 15, f"{values} {one.figure.unit}   {_verdict(one)}"))
    return parts


def _verdict(one: Outcome) -> str:
    said = "" if one.gain is None else f"{one.gain:.3g} × "
    if one.figure.bar is None:
        return said
    return said + f"(bar {one.figure.bar}: {'no figure' if one.met is None else 'met' if one.met else 'missed'})"


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#000000", size: int = 13, weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"{bold}>'
        f"{escape(words)}</text>"
    )
