"""The trio side of one engine worker: spawn it, load its model, multiplex requests onto it, see it die.

Frames of :mod:`meshnode.wire.frames` over a socket pair, messages of :mod:`meshnode.engine.pipe`. One task reads, one
writes, one drains standard error, one watches for a hang; everything a request needs is synchronous, so that its
clean-up is too.
"""

from __future__ import annotations

import logging
import math
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol

import msgspec
import structlog
import trio

from meshnode.domain import GenerationRequest
from meshnode.engine.delivery import WINDOW, Multiplexer
from meshnode.engine.gate import Gate
from meshnode.engine.last_words import LastWords, telling
from meshnode.engine.pipe import (
    PIPE_LIMIT,
    STEP_TOKENS,
    Cancel,
    EngineInfo,
    FromWorker,
    Gauge,
    Grant,
    Load,
    LoadFailed,
    LoadProgress,
    Ping,
    Pong,
    Ready,
    Step,
    Stop,
    Submit,
    ToWorker,
    decode_from_worker,
    encode,
)
from meshnode.engine.process import Process, Spawn, exit_reason
from meshnode.errors import BodyTooLarge, ModelFailed, ProtocolViolation, WorkerDied
from meshnode.events import Event, Failed, failure
from meshnode.wire.frames import FrameReader, pack

_RECEIVE = 2**16
_EXIT_GRACE_S = 0.3
_REAP_S = 10.0
"""What the kernel may take to end a process that was killed (it may hang in a driver)."""


class Death(NamedTuple):
    """Why a worker is no more, in words for its owner, and the last lines of its log."""

    reason: str
    last_words: tuple[str, ...] = ()


def worker_died(reason: str) -> Failed:
    """What closes the answers of an engine that is no more; ``reason`` completes "the engine worker"."""
    return failure(WorkerDied(f"the engine worker {reason}.", hint="Try again: it is started anew.", retry_after_s=1.0))


class Engine(Protocol):
    """One loaded model. Implementations: :class:`WorkerEngine` and :class:`meshnode.engine.inline.InlineEngine`."""

    @property
    def info(self) -> EngineInfo:
        """Shape, placement and measured speed."""

    @property
    def gauge(self) -> Gauge:
        """The scheduler's figures after its last step."""

    def generate(
        self, request: GenerationRequest, gate: Gate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request, closed by one ``Finished`` or ``Failed``; leaving the block frees its slot.

        With a ``gate``, no more of it is computed than that allows; without, all that is read is. The block may be
        entered and left in different tasks, and holds no cancel scope.
        """

    def fail_all(self, failed: Failed) -> None:
        """Close every answer under way with this event."""

    @property
    def dead(self) -> bool:
        """Whether it can answer nothing any more."""

    async def died(self) -> Death:
        """Wait until the engine is no more."""


class WorkerLimits(NamedTuple):
    """How long a worker may take. Seconds, but ``window``: tokens a request may decode ahead of its reader."""

    load_timeout_s: float = 600.0
    ping_s: float = 5.0
    hang_s: float = 30.0
    stop_s: float = 1.0
    window: int = WINDOW


DEFAULT_LIMITS = WorkerLimits()


def patience(limits: WorkerLimits, prefill_tps: float) -> float:
    """Seconds of silence after which a busy worker hangs: a full step of prompt takes that long on a slow machine."""
    longest = STEP_TOKENS / prefill_tps if prefill_tps > 0 else 0.0
    return max(limits.hang_s, 4 * longest)


def _unheard(_: float) -> None:
    """Nobody wants the progress."""


@asynccontextmanager
async def open_worker(
    load: Load,
    *,
    spawn: Spawn,
    limits: WorkerLimits = DEFAULT_LIMITS,
    progress: Callable[[float], None] = _unheard,
) -> AsyncIterator[WorkerEngine]:
    """A worker with its model loaded; the process is gone when the block is left.

    ``progress`` is called with the fraction of the weights in place. Raises ModelFailed with the reason when the
    model cannot be loaded, in time, by a process that lives.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = spawn(theirs)
    except OSError as error:
        ours.close()
        raise ModelFailed(f"the engine worker could not be started: {error.strerror or error}.") from error
    engine = WorkerEngine(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), limits, progress)
    try:
        async with trio.open_nursery() as nursery:
            for task in engine.tasks():
                nursery.start_soon(task)
            if await engine.load(load):
                yield engine
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(limits.stop_s + _REAP_S, shield=True):
            await engine.close()
    if engine.load_error is not None:
        raise engine.load_error


class WorkerEngine:
    """An :class:`Engine` over a worker process. Made by :func:`open_worker`."""

    def __init__(
        self, process: Process, stream: trio.SocketStream, limits: WorkerLimits, progress: Callable[[float], None]
    ) -> None:
        self._process = process
        self._stream = stream
        self._limits = limits
        self._progress = progress
        self._multiplexer = Multiplexer(self._submit, window=limits.window)
        self._outbox: deque[bytes] = deque()
        self._outgoing = trio.Event()
        self._loaded = trio.Event()
        self._dead = trio.Event()
        self._death = Death("")
        self._words = LastWords()
        self._words_ended = trio.Event()
        self._info: EngineInfo | None = None
        self._heard = trio.current_time()
        self.load_error: ModelFailed | None = None
        """Why the model is not loaded, once that is known."""

    # --- what callers use ---------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def info(self) -> EngineInfo:
        """What loading gave."""
        assert self._info is not None, "open_worker yields loaded engines only"
        return self._info

    @property
    def gauge(self) -> Gauge:
        """The scheduler's figures after its last step."""
        return self._multiplexer.gauge

    def generate(
        self, request: GenerationRequest, gate: Gate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request; a dead worker closes it with ``Failed(code="worker_died")``. Raises BodyTooLarge."""
        return self._multiplexer.generate(request, gate)

    def fail_all(self, failed: Failed) -> None:
        """Close every answer under way with this event."""
        self._multiplexer.fail_all(failed)

    @property
    def dead(self) -> bool:
        """Whether the worker is gone or was told to go."""
        return self._dead.is_set()

    async def died(self) -> Death:
        """Wait until the worker is no more."""
        await self._dead.wait()
        return self._death

    # --- its life -----------------------------------------------------------------------------

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """The tasks that must run for it to live."""
        return (self._read, self._write, self._listen, self._watch)

    async def load(self, load: Load) -> bool:
        """Load the model; False leaves the reason in ``load_error``."""
        self._post(load)
        with trio.move_on_after(self._limits.load_timeout_s):
            await self._loaded.wait()
        if not self._loaded.is_set():
            self._die(f"did not load its model within {self._limits.load_timeout_s:g} s")
        return self.load_error is None

    async def close(self) -> None:
        """Ask the worker to leave, make it after the stop limit, and reap it."""
        if not self._dead.is_set():
            self._post(Stop())
            self._end("was stopped")
            with trio.move_on_after(self._limits.stop_s):
                await self._flush()
                await self._stream.aclose()  # what it still has to say nobody reads: it may not block on it
                await self._process.wait()
        self._process.kill()
        await trio.aclose_forcefully(self._stream)
        await self._process.wait()
        await trio.aclose_forcefully(self._process.errors)

    def _die(self, reason: str) -> None:
        """The worker is of no more use: kill it, and close every answer."""
        self._process.kill()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self._dead.is_set():
            return
        self._death = Death(reason, self._words.lines)
        self._dead.set()
        self._multiplexer.close(worker_died(reason))
        if self._info is None:
            said = telling(self._words.lines)
            self._refuse(f"the engine worker {reason}" + (f": {said}" if said else "."))

    def _refuse(self, reason: str) -> None:
        if self.load_error is None:
            self.load_error = ModelFailed(reason, hint="Check the file, or load another model.")
        self._loaded.set()

    # --- to the worker ------------------------------------------------------------------------

    def _submit(self, message: Submit | Grant | Cancel) -> None:
        if isinstance(message, Submit):
            self._words.guarded = True
        try:
            self._post(message)
        except ProtocolViolation:
            raise BodyTooLarge(f"the request is over {PIPE_LIMIT} bytes.", hint="Send less at once.") from None

    def _post(self, message: ToWorker) -> None:
        self._outbox.append(pack(encode(message), limit=PIPE_LIMIT))
        self._outgoing.set()

    async def _write(self) -> None:
        while True:
            await self._flush()
            self._outgoing = trio.Event()
            await self._outgoing.wait()

    async def _flush(self) -> None:
        try:
            while self._outbox:
                await self._stream.send_all(self._outbox.popleft())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._outbox.clear()  # the reading task sees the same end, and says why

    async def _watch(self) -> None:
        """Kill a worker that is busy and says nothing; a daemon that slept itself gives it a new term."""
        nonce = 0
        while True:
            slept_from = trio.current_time()
            await trio.sleep(self._limits.ping_s)
            now = trio.current_time()
            if not self._multiplexer.busy or now - slept_from > self._limits.ping_s + 2:
                self._heard = now
            limit = patience(self._limits, self._info.prefill_tps if self._info else 0.0)
            if now - self._heard > limit:
                self._die(f"gave no sign for {now - self._heard:.0f} s and was ended")
            elif self._multiplexer.busy:
                nonce += 1
                self._post(Ping(nonce))

    # --- from the worker ----------------------------------------------------------------------

    async def _read(self) -> None:
        reader = FrameReader(limit=PIPE_LIMIT)
        try:
            while data := await self._stream.receive_some(_RECEIVE):
                for payload in reader.feed(data):
                    self._take(decode_from_worker(payload))
        except (msgspec.DecodeError, ProtocolViolation) as error:
            self._die(f"sent what is no message of the pipe ({type(error).__name__}) and was ended")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._die(await self._last_breath())
        else:
            self._die(await self._last_breath())

    async def _last_breath(self) -> str:
        """How the process ended, once its end of the pipe is closed; it has a moment to end and to be read."""
        reason = "closed its pipe and was ended"
        with trio.move_on_after(_EXIT_GRACE_S):
            reason = exit_reason(await self._process.wait())
            await self._words_ended.wait()
        return reason

    def _take(self, message: FromWorker) -> None:
        self._heard = trio.current_time()
        match message:
            case LoadProgress() if self._info is None:
                self._progress(min(1.0, max(0.0, message.fraction)) if math.isfinite(message.fraction) else 0.0)
            case Ready() if self._info is None:
                self._info = message.info
                self._loaded.set()
            case LoadFailed() if self._info is None:
                self._refuse(message.reason)
            case Step() if self._info is not None:
                self._multiplexer.commit(message)
            case Pong():
                self._multiplexer.gauge = message.gauge
            case _:
                raise ProtocolViolation(f"{type(message).__name__} came out of turn.")

    async def _listen(self) -> None:
        log = structlog.get_logger()
        try:
            while data := await self._process.errors.receive_some(_RECEIVE):
                for line in self._words.feed(bytes(data)):
                    defect = "engine defect" in line
                    log.log(logging.ERROR if defect else logging.DEBUG, "worker_said", pid=self.pid, line=line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._words.close()
        self._words_ended.set()
