"""Sequences and plans for a scheduler without an engine."""

from __future__ import annotations

from collections.abc import Callable

from meshnode.domain import ServiceClass, Stopping
from meshnode.engine.pipe import UNLIMITED
from meshnode.engine.scheduler import Plan, Scheduler
from meshnode.engine.sequence import TokenSequence


def sequence(
    number: int,
    prompt: int = 4,
    *,
    of: ServiceClass = ServiceClass.OWNER,
    credit: int = UNLIMITED,
    prefill: int = UNLIMITED,
    most: int | None = None,
    limit: int = 1000,
) -> TokenSequence:
    """A sequence with a prompt of so many tokens, which no other number begins with."""
    return TokenSequence(
        number,
        [1000 + number] * prompt,
        limit=limit,
        stopping=Stopping(max_tokens=most),
        credit=credit,
        prefill=prefill,
        service_class=of,
    )


def at_most(tokens: int) -> Callable[[int], int]:
    """A budget that does not change."""
    return lambda decoding: max(0, tokens - decoding)


def take(scheduler: Scheduler, plan: Plan) -> list[int]:
    """Do what the plan says with an engine that always draws token 1; numbers of those that finished."""
    finished = []
    for it, length, last in plan.chunks:
        it.advance(length)
        if last and it.accept(1, ends_generation=False) is not None:
            scheduler.release(it)
            finished.append(it.number)
    return finished


def shape(plan: Plan) -> dict[int, int]:
    """How many tokens of which request."""
    return {it.number: length for it, length, _ in plan.chunks}


def started(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    """Let these sequences run until each decodes."""
    for it in sequences:
        scheduler.submit(it)
    while not all(it.decoding for it in sequences):
        take(scheduler, scheduler.plan(at_most(512), 0.0))
