"""Whether an answer of ``scripts/soak`` is right. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from benchmark.soak_asks import CHOICES, CODE, REGEX, Ask, Card
from benchmark.streams import Answer, Chosen

NEAR_TIE: Final = 0.5
"""Two tokens whose log-probabilities differ by less are a near-tie: a batch of another size may turn them round.

SmolLM2 in four bits, on a CPU: llama-server's own answers to one request asked twice move by up to 0.28, and part at
margins of up to 0.17. A token of either side may move so far.
"""
CLOSE: Final = 0.05
"""Counted apart: a margin that the numerics of any batch explain."""
CUT: Final = frozenset({"length"})
"""Ends at which an answer may be unfinished."""
CODES: Final = re.compile(rf"(?<![A-Za-z])[A-Z]{{{CODE}}}(?![A-Za-z])")


def faults(ask: Ask, answer: Answer, codes: Collection[str]) -> list[str]:
    """What is wrong with an answer that came to its end: its form, its ends, a neighbour's code word in it."""
    found = foreign(ask, answer, codes)
    wanted = int(ask.body.get("n", 1))
    if len(answer.finishes) != wanted:
        found.append(f"{ask.kind}: {len(answer.finishes)} of {wanted} choices ended")
    for index, finish in sorted(answer.finishes.items()):
        said = answer.arguments.get(index, "") if ask.kind == "tool" else answer.choices.get(index, "")
        if finish not in CUT and not well_formed(ask, said):
            found.append(f"{ask.kind}: not of the form asked for, though it ended with {finish}: {said[:200]!r}")
    return found


def foreign(ask: Ask, answer: Answer, codes: Collection[str]) -> list[str]:
    """A line for each code word of another request that stands in this answer."""
    text = "\n".join([*answer.choices.values(), *answer.arguments.values()])
    strange = {code for code in CODES.findall(text) if code in codes and code != ask.code}
    return [f"{ask.kind}: the code word {code} of another request" for code in sorted(strange)]


def well_formed(ask: Ask, text: str) -> bool:
    """Whether a finished answer has the form that was asked for; a free one always has."""
    form = ask.body.get("structured_outputs", {})
    if "regex" in form:
        return re.fullmatch(REGEX, text) is not None
    if "choice" in form:
        return text in CHOICES
    if "response_format" not in ask.body and "tools" not in ask.body:
        return True
    try:
        msgspec.json.decode(text, type=Card)
    except msgspec.DecodeError:
        return False
    return True


def margin(alone: Sequence[Chosen], beside: Sequence[Chosen]) -> float | None:
    """How far apart the two tokens were where two greedy answers part, as log-probability; None where they do not.

    Where one answer ended and the other went on, it is the distance of the two likeliest tokens of the other.
    """
    for one, other in zip(alone, beside, strict=False):
        if one.token != other.token:
            return _apart(one, other)
    if len(alone) == len(beside):
        return None
    shorter, longer = sorted((alone, beside), key=len)
    best = sorted(longer[len(shorter)].top.values(), reverse=True)
    return best[0] - best[1] if len(best) > 1 else math.inf


def _apart(one: Chosen, other: Chosen) -> float:
    """Both in one run, where it says so of both; else each in its own."""
    if other.token in one.top:
        return abs(one.logprob - one.top[other.token])
    if one.token in other.top:
        return abs(other.logprob - other.top[one.token])
    return abs(one.logprob - other.logprob)


def drift(alone: Sequence[Chosen], beside: Sequence[Chosen]) -> float:
    """How far the log-probability of an equal token after equal tokens moved at most: what the batch did to it."""
    most = 0.0
    for one, other in zip(alone, beside, strict=False):
        if one.token != other.token:
            break
        most = max(most, abs(one.logprob - other.logprob))
    return most
