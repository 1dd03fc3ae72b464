"""The course of a request that may be answered by several models: one after the other, before the first word. Pure.

Each rung is one model with a course of its own. The next is tried when a model is not known, is served by nobody,
fails, or cannot do what is asked; an error that any model would give ends the climb. Who is left with nothing is told
the last error and every name that was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import (
    BodyTooLarge,
    CapabilityUnavailable,
    Conflict,
    ContextLengthExceeded,
    InternalFault,
    MeshnodeError,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    NobodyServes,
    Overloaded,
    PaymentRequired,
    PeerError,
    RateLimited,
    TemplateRefused,
    UnsupportedParameter,
    WorkerDied,
)
from meshnode.events import error_of, failure
from meshnode.mesh.answer import Route
from meshnode.mesh.failover import Course, Speed
from meshnode.mesh.route import Candidate, Plan

ENOUGH: Final = 8
"""Attempts after which no further model is tried."""
_MOVES_ON: Final = (
    ModelNotFound,
    NobodyServes,
    ModelFailed,
    ModelLoading,
    WorkerDied,
    Overloaded,
    RateLimited,
    PaymentRequired,
    PeerError,
    InternalFault,
    CapabilityUnavailable,
    ContextLengthExceeded,
    TemplateRefused,
    UnsupportedParameter,
    BodyTooLarge,
    Conflict,
)
"""Errors of one model that another may not have."""
_SHOWN: Final = 3


class Rung(NamedTuple):
    """One model, as ``name`` has it; ``course`` is None, and ``error`` says why, where there is no such model.

    ``note`` says how it came to be chosen, where its name does not.
    """

    name: str
    model: ModelId
    course: Course | None = None
    card: ModelCard | None = None
    plan: Plan = Plan()
    note: str = ""
    error: MeshnodeError | None = None


class Ladder:
    """A :class:`meshnode.mesh.failover.Course` over rungs, each of which is made when it is reached.

    Raises the error of the only rung where that is no model.
    """

    def __init__(self, rungs: Iterator[Rung]) -> None:
        self._rungs = rungs
        self._failed: list[str] = []
        self._last: MeshnodeError = ModelNotFound("there is no model to ask.", param="model")
        self._attempts = 0
        self._rung: Rung | None = None
        self._course = self._climb()

    @property
    def card(self) -> ModelCard | None:
        """This node's file of the model that is being tried, if it has one."""
        return None if self._rung is None else self._rung.card

    @property
    def route(self) -> Route:
        """The road so far, the attempts at other models among it."""
        route = self._course.route
        notes = [note for note in (self._instead(), self._rung.note if self._rung else "", route.reason) if note]
        return msgspec.structs.replace(
            route, attempts=self._attempts + route.attempts, reason=": ".join(notes).replace(";", ",")
        )

    def next(self) -> Candidate:
        """Who is to be asked now. Raises what the caller is told when no model is left."""
        while True:
            try:
                return self._course.next()
            except MeshnodeError as error:
                self._give_up(error)

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """See the protocol."""
        told = self._course.lost(error, spoke=spoke)
        if told is None or spoke:
            return told
        try:
            self._give_up(told)
        except MeshnodeError as last:
            return last
        return None

    def late(self) -> None:
        """Whoever was asked last did not begin in time."""
        self._course.late()

    def done(self, speed: Speed) -> None:
        """Whoever was asked last has answered."""
        self._course.done(speed)

    # --- from one to the next -------------------------------------------------------------------

    def _climb(self) -> Course:
        """The course of the next model there is. Raises the last error when there is none."""
        for rung in self._rungs:
            if rung.course is not None:
                self._rung = rung
                return rung.course
            self._note(rung.name, rung.error or ModelNotFound(f"no model {rung.name!r}.", param="model"))
        raise self._told()

    def _give_up(self, error: MeshnodeError) -> None:
        """Go on after this model's end. Raises the error where that is the end of all."""
        assert self._rung is not None, "there is a course"
        self._note(self._rung.name, error)
        if not isinstance(error, _MOVES_ON):
            raise self._told()
        attempts = self._attempts + self._course.route.attempts
        if attempts >= ENOUGH:
            raise self._told()
        self._course = self._climb()
        self._attempts = attempts

    def _note(self, name: str, error: MeshnodeError) -> None:
        self._last = error
        self._failed.append(f"{name} ({error.code})")

    def _told(self) -> MeshnodeError:
        if len(self._failed) < 2:
            return self._last
        said = f"{self._last.message} Tried in vain: {', '.join(self._failed)}."
        return error_of(msgspec.structs.replace(failure(self._last), message=said))

    def _instead(self) -> str:
        if not self._failed:
            return ""
        more = f" and {len(self._failed) - _SHOWN} more" if len(self._failed) > _SHOWN else ""
        return f"instead of {', '.join(self._failed[:_SHOWN])}{more}"
