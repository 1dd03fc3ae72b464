"""An engine worker's process: ``python -m meshnode.engine.worker FD``, one model, one plain loop, no trio.

Frames on the socket FD; the first message is ``Load``. With ``--no-sandbox`` the process keeps its rights
(:mod:`meshnode.engine.confine`). ``--probe`` prints what the installed library can do, as one
line of JSON, and needs no socket. The process ends with its parent: by a signal from the kernel, or at the end of the
pipe, whichever comes first.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from meshnode.domain import Kind
from meshnode.engine.backend import Backend
from meshnode.engine.channel import HIGH_WATER, Channel, HungUpError
from meshnode.engine.confine import Sandbox, confine
from meshnode.engine.loop import Loop
from meshnode.engine.measure import measure, measure_embedding
from meshnode.engine.pipe import (
    STEP_TOKENS,
    Cancel,
    Device,
    EngineInfo,
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
)
from meshnode.engine.ram import resident
from meshnode.engine.threads import Expected, look, proposed
from meshnode.engine.tuning import Pacer, tune
from meshnode.errors import MeshnodeError, ModelFailed

_POLL_S = 0.003
"""How often the pipe is looked at while a long batch is computed."""
_LOOK_S = 0.5
"""How often a loop with nothing to compute is asked whether waiting has changed that."""

Opener = Callable[[Load, Callable[[float], bool]], Backend]
"""Loads a model; is handed a progress callback that returns false when the load should stop. Raises MeshnodeError."""


class _Stopped(Exception):
    """The parent said stop."""


class Worker:
    """One model over one channel, from ``Load`` to ``Stop``."""

    def __init__(
        self, channel: Channel, opener: Opener, sandbox: Sandbox, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._opener = opener
        self._sandbox = sandbox
        self._clock = clock
        self._cores, self._own_memory = look(), resident()
        self._pacer: Pacer | None = None
        self._loop: Loop | None = None
        self._looked = 0.0

    def run(self) -> None:
        """Serve until the parent says stop or hangs up."""
        try:
            load = self._first()
            self._sandbox.close_in(load.path)
            backend = self._load(load)
            if backend is not None:
                self._serve(backend, load)
        except (_Stopped, HungUpError):
            return

    def _first(self) -> Load:
        """The first message, which must be ``Load``."""
        while (message := self._channel.take()) is None:
            self._channel.poll(None)
        if not isinstance(message, Load):
            raise _Stopped
        return message

    # --- loading ------------------------------------------------------------------------------

    def _load(self, load: Load) -> Backend | None:
        """The model, once ``Ready`` was said; ``None`` once the reason was."""
        try:
            default = proposed(self._cores)
            threads = load.threads or default
            given = msgspec.structs.replace(load, threads=threads, threads_batch=load.threads_batch or threads)
            backend = self._opener(given, self._progress)
            info = self._measured(backend, load) if load.measure else backend.info
            if info.memory:
                info = msgspec.structs.replace(info, memory=info.memory + self._own_memory)
            self._loop = self._make_loop(backend, load, info)
        except MeshnodeError as error:
            self._channel.send(LoadFailed(str(error), error.code))
            self._flush()
            return None
        under = {"sandbox": tuple(self._sandbox.layers), "sandbox_missing": tuple(self._sandbox.missing)}
        self._channel.send(Ready(msgspec.structs.replace(info, **under)))
        return backend

    def _measured(self, backend: Backend, load: Load) -> EngineInfo:
        """Shape and speed, with the threads that are the fastest unless the owner set them."""
        if Kind.GENERATE.value not in backend.info.kinds:
            rate = measure_embedding(backend.embedding(), self._clock)
            return msgspec.structs.replace(backend.info, prefill_tps=rate.prefill_tps)
        decode, prefill = load.threads, load.threads_batch or load.threads
        why = "set by the owner"
        if not load.threads:
            decode, prefill, why = tune(backend, self._clock, self._cores, prefill=load.threads_batch)
        speed = measure(backend, self._clock)
        if not load.threads:
            expected = Expected(_seconds(speed.decode_tps), _seconds(speed.prefill_tps))
            self._pacer = Pacer(backend, self._clock, expected, decode=decode, prefill=prefill)
        return msgspec.structs.replace(
            backend.info,
            decode_tps=speed.decode_tps,
            prefill_tps=speed.prefill_tps,
            threads=decode,
            threads_batch=prefill,
            threads_reason=why,
        )

    def _make_loop(self, backend: Backend, load: Load, info: EngineInfo) -> Loop:
        return Loop(
            backend,
            clock=self._clock,
            entropy=lambda: secrets.randbits(64),
            now=datetime.now,
            step_tokens=min(STEP_TOKENS, load.n_batch),
            host_bytes=load.cache_bytes,
            prefill_tps=info.prefill_tps,
            complain=_complain,
            paced=self._paced,
        )

    def _paced(self, rows: int, seconds: float) -> None:
        if self._pacer is not None:
            self._pacer.observe(rows, seconds)

    def _progress(self, fraction: float) -> bool:
        """Tell the parent how far the load is; raising is no way out of a C callback, so leaving is done here."""
        try:
            if self._channel.unsent < HIGH_WATER:
                self._channel.send(LoadProgress(fraction))
            self._channel.poll()
        except HungUpError:
            os._exit(0)
        return not any(isinstance(message, Stop) for message in self._channel.peek())

    # --- serving ------------------------------------------------------------------------------

    def _serve(self, backend: Backend, load: Load) -> None:
        loop = self._loop
        assert loop is not None, "loading made it"
        backend.set_abort(self._should_abort)
        gc.freeze()  # what loading left is here to stay: the collector need not look at it again
        told = loop.gauge()
        try:
            while True:
                self._receive(loop)
                step = loop.step()
                if step is None and loop.gauge() != told:
                    step = Step((), loop.gauge())  # a cancelled request has no events, but its slot is free
                if step is not None:
                    told = step.gauge
                    self._channel.send(step)
        finally:
            backend.set_abort(None)
            backend.close()

    def _receive(self, loop: Loop) -> None:
        """Handle what has come; wait while there is nothing to compute, or the parent does not keep up."""
        self._channel.poll(self._patience(loop))
        while True:
            while (message := self._channel.take()) is not None:
                self._handle(loop, message)
            if self._channel.unsent <= HIGH_WATER:
                return
            self._channel.poll(None)

    def _patience(self, loop: Loop) -> float | None:
        if not loop.idle:
            return 0.0
        return _LOOK_S if loop.gauge().waiting or loop.lingers else None

    def _handle(self, loop: Loop, message: ToWorker) -> None:
        match message:
            case Submit() | Grant() | Cancel():
                loop.handle(message)
            case Ping():
                self._channel.send(Pong(message.nonce, loop.gauge()))
            case Stop() | Load():
                raise _Stopped

    def _should_abort(self) -> bool:
        """Asked by the library many times a batch: does the parent want what is computed no more?"""
        now = self._clock()
        if now - self._looked < _POLL_S:
            return False
        self._looked = now
        try:
            self._channel.poll()
        except HungUpError:
            return True  # met again, and acted on, after the batch
        return any(self._unwants(message) for message in self._channel.peek())

    def _unwants(self, message: ToWorker) -> bool:
        if isinstance(message, Cancel):
            return self._loop is not None and self._loop.prefilling(message.number)
        if isinstance(message, Submit):
            return self._loop is not None and self._loop.yields and message.request.kind is Kind.GENERATE
        return isinstance(message, Stop)

    def _flush(self) -> None:
        while self._channel.unsent:
            self._channel.poll(None)


def _seconds(rate: float) -> float:
    return 1 / rate if rate > 0 else 0.0


def _complain(place: str) -> None:
    print(f"  engine defect: {place}", file=sys.stderr, flush=True)  # noqa: T201  last words, kept by the parent


def _open_llama(load: Load, progress: Callable[[float], bool]) -> Backend:
    try:
        from meshnode.engine.llama.loading import open_llama  # here, since a fake worker needs no library
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelFailed(f"the installed llama.cpp cannot be loaded: {error}.", hint="Run scripts/setup.") from error
    return open_llama(load, progress=progress)


def _open_fake(load: Load, progress: Callable[[float], bool]) -> Backend:
    from meshnode.engine.fake import FakeBackend

    progress(1.0)
    return FakeBackend(load.n_ctx or 4096, load.n_seq_max, n_batch=load.n_batch)


class Probe(msgspec.Struct, frozen=True):
    """What the installed library can do on this machine."""

    backends: tuple[str, ...]
    devices: tuple[Device, ...]
    gpu_offload: bool
    system_info: str


def probe() -> Probe:
    """Ask the library. ``gpu_offload`` is true when it sees a GPU, integrated or not."""
    from meshnode.engine.llama import library

    library.open_library()
    devices = library.devices()
    seen = any(device.kind in ("gpu", "igpu") for device in devices)
    return Probe(library.backends(), devices, seen, library.system_info())


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    if list(arguments) == ["--probe"]:
        sys.stdout.write(json.dumps(msgspec.to_builtins(probe())) + "\n")
        return 0
    *options, number = arguments or ("",)
    if not number.isdigit() or not {*options} <= {"--fake", "--no-sandbox"}:
        sys.stderr.write("usage: python -m meshnode.engine.worker [--fake] [--no-sandbox] FD | --probe\n")
        return 2
    sandbox = confine(int(number), sandbox="--no-sandbox" not in options)
    with socket.socket(fileno=int(number)) as sock:
        Worker(Channel(sock), _open_fake if "--fake" in options else _open_llama, sandbox).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
