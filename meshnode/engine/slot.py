"""One model's place in the pool: the task that loads its engine, keeps it alive, and withdraws it when it cannot.

loading ──> ready ──> (the worker died) ──> loading …          a third death in a row ──> failed
   └──────────> failed: the first load failed                  leave() from anywhere  ──> unloaded
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import trio

from meshnode.domain import ModelCard, ModelId, Record
from meshnode.engine.back_off import BackOff
from meshnode.engine.last_words import telling
from meshnode.engine.pipe import EngineInfo, Gauge
from meshnode.engine.runner import Death, Engine
from meshnode.errors import Draining, MeshnodeError, ModelFailed
from meshnode.events import Failed, failure

OpenEngine = Callable[[ModelCard, Callable[[float], None]], AbstractAsyncContextManager[Engine]]
"""Opens an engine for a model, reporting the fraction loaded. Raises ModelFailed (or another MeshnodeError)."""

BEST_FIRST: Final = ("ready", "loading", "unloaded")
"""States in which a model is of use, best first."""
FAR_OFF: Final = 1.2
"""How many times its estimate a model may take, or the other way round, before that is worth a line."""
STRIKES = 3
"""Deaths in a row, without a request that ended well between them, after which a model is withdrawn."""


class ModelState(Record, frozen=True, kw_only=True):
    """One model as the pool sees it."""

    id: ModelId
    state: str = "unloaded"
    """``unloaded``, ``loading``, ``ready`` or ``failed``."""
    progress: float = 0.0
    """Of loading, 0..1."""
    reason: str = ""
    """Why it failed, or why it is being loaded again."""
    info: EngineInfo | None = None
    gauge: Gauge = Gauge()
    restarts: int = 0
    estimated: int = 0
    """Bytes it was expected to take; what it takes is in ``info``."""


def model_failed(model: ModelId, reason: str) -> ModelFailed:
    """The error for callers of a model that was withdrawn."""
    hint = f"Mend the cause and load it again (POST /api/models/{model}/load), or use another model."
    return ModelFailed(f"{model} cannot be used: {reason}", hint=hint)


def _told(death: Death) -> str:
    said = telling(death.last_words)
    return death.reason + (f": {said}" if said else "")


class Slot:
    """One model in the pool. ``run`` is its task; everything else is synchronous and for the pool."""

    def __init__(
        self,
        card: ModelCard,
        open_engine: OpenEngine,
        *,
        back_off: BackOff,
        chance: Callable[[], float],
        restarted: Callable[[], None],
        restarts: int = 0,
        estimated: int = 0,
    ) -> None:
        self.card = card
        self.users = 0
        """Callers that hold or await the engine; a slot with users is not evicted."""
        self.guests = 0
        """Those of them that are not the owner's: when the owner needs the room, they do not keep it."""
        self.used_at = trio.current_time()
        self.ending: Failed | None = None
        """What callers that wait for the engine are to be told; set once there will be none."""
        self.changed = trio.Event()
        """Set, and replaced, at each change of this slot."""
        self.gone = trio.Event()
        """Set once the engine's memory is free."""
        self._open = open_engine
        self._back_off = back_off
        self._chance = chance
        self._restarted = restarted
        self._scope = trio.CancelScope()
        self._engine: Engine | None = None
        self._was_ready = False
        self._state = "loading"
        self._progress = 0.0
        self._reason = ""
        self._restarts = restarts
        self._estimated = estimated
        self._strikes = 0
        self._log = structlog.get_logger().bind(model=card.id)

    @property
    def engine(self) -> Engine | None:
        """The loaded engine; None while there is none, or it has died."""
        return None if self._engine is None or self._engine.dead else self._engine

    @property
    def occupied(self) -> bool:
        """Whether it takes, or is about to take, a model's memory."""
        return self._state in ("loading", "ready")

    @property
    def settled(self) -> bool:
        """Whether what it takes of the memory is taken, and not yet given back."""
        return self._state == "ready" or (self._scope.cancel_called and self._was_ready and not self.gone.is_set())

    @property
    def progress(self) -> float:
        """The fraction loaded."""
        return self._progress

    @property
    def state(self) -> ModelState:
        """A snapshot."""
        engine = self.engine
        return ModelState(
            id=self.card.id,
            state=self._state,
            progress=self._progress,
            reason=self._reason,
            info=engine.info if engine else None,
            gauge=engine.gauge if engine else Gauge(),
            restarts=self._restarts,
            estimated=self._estimated,
        )

    # --- what the pool does with it -----------------------------------------------------------

    def finished(self) -> None:
        """A request ended well: what killed workers before is forgiven."""
        self._strikes = 0

    def end(self, failed: Failed) -> None:
        """Close every answer under way, and everybody's wait for the engine, with this event."""
        self.ending = failed
        if self.engine is not None:
            self.engine.fail_all(failed)
        self._notify()

    def leave(self) -> None:
        """Unload; ``gone`` says when it is done."""
        if self.occupied:
            self._withdraw("unloaded")
        self._scope.cancel()

    # --- its task -----------------------------------------------------------------------------

    async def run(self, after: Iterable[trio.Event] = ()) -> None:
        """Load the model once ``after`` has happened, and keep it loaded until :meth:`leave` or too many deaths."""
        try:
            with self._scope:
                for event in after:
                    await event.wait()
                await self._keep()
        finally:
            self._withdraw("unloaded" if self.occupied else self._state)
            self.end(self.ending or failure(Draining("the model is being unloaded.", retry_after_s=1.0)))
            self.gone.set()

    async def _keep(self) -> None:
        wait_s = 0.0
        while self.occupied:
            death = await self._live()
            self._strikes += 1
            if self._strikes == 1:
                wait_s = 0.0
            if self._strikes >= STRIKES or not self._was_ready:
                self._fail(death)
                return
            wait_s = self._back_off.after(wait_s, self._chance())
            self._log.warning("worker_died", reason=_told(death), again_in_s=round(wait_s, 2))
            self._withdraw("loading", _told(death))
            await trio.sleep(wait_s)
            self._restarts += 1
            self._restarted()

    async def _live(self) -> Death:
        """One engine from its start to its end."""
        try:
            async with self._open(self.card, self._on_progress) as engine:
                self._engine, self._was_ready = engine, True
                self._state, self._progress, self._reason = "ready", 1.0, ""
                self.used_at = trio.current_time()
                self._log.info("model_ready", load_s=round(engine.info.load_s, 2), n_ctx=engine.info.n_ctx)
                self._compare(engine.info.memory)
                if engine.info.sandbox_missing:
                    self._log.warning("sandbox_incomplete", missing=engine.info.sandbox_missing)
                self._notify()
                death = await engine.died()
                self._withdraw("loading", _told(death))
                return death
        except MeshnodeError as error:
            return Death(error.message)

    def _compare(self, taken: int) -> None:
        """Say when the estimate was far from what loading took: what fits is judged by it."""
        if taken and self._estimated and not 1 / FAR_OFF <= taken / self._estimated <= FAR_OFF:
            self._log.warning("memory_misjudged", taken=taken, estimated=self._estimated)

    def _fail(self, death: Death) -> None:
        reason = _told(death)
        if self._strikes > 1:
            reason = f"its worker failed {self._strikes} times in a row; the last time: {reason}"
        self._log.error("model_failed", reason=reason)
        self._withdraw("failed", reason)
        self.end(failure(self.failed()))

    def failed(self) -> ModelFailed:
        """The error for callers of a model that has failed."""
        return model_failed(self.card.id, self._reason)

    def _withdraw(self, state: str, reason: str = "") -> None:
        self._engine = None
        self._state, self._progress = state, 0.0
        self._reason = reason or self._reason
        self._notify()

    def _on_progress(self, fraction: float) -> None:
        self._progress = fraction
        self._notify()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
