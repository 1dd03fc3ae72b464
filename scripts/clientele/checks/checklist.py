"""Checks that are carried out one by one and told as JSON lines, in an environment that has only the client's packages.

A check is a function that judges what its client was given: it returns where that is right, raises AssertionError (or
whatever the client raised) where it is wrong, and :class:`Skipped` where the question does not arise.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

SubjectT = TypeVar("SubjectT")
MOST_SAID = 400
"""Characters of a failure that are told."""
TARGET = "MESHNODE_CLIENTS_TARGET"
"""Environment variable that carries a :class:`Target` as JSON to the program that checks."""


class Skipped(Exception):
    """The question does not arise; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where the clients go. URLs are without ``/v1``; an empty one means that there is no such server."""

    api: str
    embeddings: str
    model: str
    key: str = "unused"
    guarded: str = ""
    """A server of the same kind that asks for ``key`` and answers one request at a time."""


def target() -> Target:
    """The target that this program was started with."""
    return Target(**json.loads(os.environ[TARGET]))


class Checklist(Generic[SubjectT]):
    """Checks by name, in the order they were written."""

    def __init__(self) -> None:
        self.checks: dict[str, Callable[[SubjectT], None]] = {}

    def __call__(self, name: str) -> Callable[[Callable[[SubjectT], None]], Callable[[SubjectT], None]]:
        """Mark a function as the check ``name``."""

        def mark(function: Callable[[SubjectT], None]) -> Callable[[SubjectT], None]:
            assert name not in self.checks, f"{name} is there twice"
            self.checks[name] = function
            return function

        return mark

    def run(self, subject: SubjectT, wanted: Iterable[str] = ()) -> None:
        """Carry out every check whose name holds one of ``wanted`` (all, where none is given); tell each at once."""
        words = tuple(wanted)
        for name, function in self.checks.items():
            if words and not any(word in name for word in words):
                continue
            began = time.monotonic()
            outcome, said = _judged(function, subject)
            told = {"check": name, "outcome": outcome, "said": said, "took_s": round(time.monotonic() - began, 2)}
            print(json.dumps(told), flush=True)


def _judged(function: Callable[[SubjectT], None], subject: SubjectT) -> tuple[str, str]:
    try:
        function(subject)
    except Skipped as reason:
        return "skipped", str(reason)
    except AssertionError as wrong:
        return "failed", _short(str(wrong) or f"an assertion at line {_line(wrong)} of {function.__name__}")
    except Exception as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        return "failed", _short(f"{type(error).__name__}: {error}{cause}")
    return "passed", ""


def _line(error: BaseException) -> int:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last.tb_lineno if last is not None else 0


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MOST_SAID else flat[: MOST_SAID - 1] + "…"


def same(found: object, wanted: object, what: str) -> None:
    """Raises AssertionError, with both values, where they differ."""
    assert found == wanted, f"{what}: expected {wanted!r}, found {found!r}"
