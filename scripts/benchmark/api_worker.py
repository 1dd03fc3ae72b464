"""An engine worker driven over its pipe by nobody but the benchmark: what the API is measured against."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.nodes import CHECKOUT, environment
from benchmark.streams import Figures
from meshnode.domain import CallerId, GenerationRequest, Message, ModelId, RequestId, Role, Sampling, Stopping, TextPart
from meshnode.engine.pipe import FromWorker, Load, LoadFailed, Ready, Step, Submit, ToWorker, decode_from_worker, encode
from meshnode.events import Failed, Finished, TextDelta
from meshnode.wire.frames import FrameReader, pack

LIMIT: Final = 1 << 26
PATIENCE_S: Final = 600.0


class WorkerError(Exception):
    """The worker did not do its part."""


class Worker:
    """A loaded worker."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader(limit=LIMIT)
        self._heard: list[FromWorker] = []
        self._number = 0

    def load(self, load: Load) -> None:
        """Load a model. Raises WorkerError."""
        self._say(load)
        while not isinstance(message := self._hear(), Ready):
            if isinstance(message, LoadFailed):
                raise WorkerError(message.reason)

    def measure(self, asked: Sequence[Mapping[str, Any]], tokens: int) -> Figures:
        """Hand all requests in at once and read them to their ends, as :func:`benchmark.streams.measure` does."""
        began = time.monotonic()
        left = {}
        for body in asked:
            self._number += 1
            left[self._number] = 0
            self._say(Submit(number=self._number, request=_request(body, tokens)))
        first: dict[int, float] = {}
        counted = 0
        while len(left):
            message = self._hear()
            now = time.monotonic()
            for number, event in message.events if isinstance(message, Step) else ():
                if isinstance(event, TextDelta):
                    first.setdefault(number, now - began)
                elif isinstance(event, Finished):
                    counted += event.usage.completion_tokens
                    del left[number]
                elif isinstance(event, Failed):
                    raise WorkerError(event.message)
        return Figures(counted / (time.monotonic() - began), statistics.median(first.values()))

    def _say(self, message: ToWorker) -> None:
        self._sock.sendall(pack(encode(message), limit=LIMIT))

    def _hear(self) -> FromWorker:
        while not self._heard:
            data = self._sock.recv(1 << 16)
            if not data:
                raise WorkerError("the worker ended")
            self._heard += [decode_from_worker(payload) for payload in self._reader.feed(data)]
        return self._heard.pop(0)


@contextlib.contextmanager
def worker(model: Path, *, context: int, slots: int) -> Iterator[Worker]:
    """A worker with ``model`` loaded, of one thread; killed at the end of the block. Raises WorkerError."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    fd = theirs.fileno()
    command = [sys.executable, "-m", "meshnode.engine.worker", str(fd)]
    with subprocess.Popen(command, pass_fds=[fd], env=environment(), cwd=CHECKOUT) as process, ours:
        theirs.close()
        try:
            driven = Worker(ours)
            driven.load(Load(path=str(model), n_ctx=context, n_seq_max=slots, threads=1, threads_batch=1, gpu_layers=0))
            yield driven
        finally:
            process.kill()


def _request(body: Mapping[str, Any], tokens: int) -> GenerationRequest:
    """The domain's record of a body as :func:`benchmark.streams.body` makes them."""
    said = tuple(Message(role=Role(one["role"]), parts=(TextPart(one["content"]),)) for one in body["messages"])
    return GenerationRequest(
        id=RequestId("bench"),
        model=ModelId("bench"),
        messages=said,
        caller=CallerId("bench"),
        sampling=Sampling(temperature=0.0),
        stopping=Stopping(max_tokens=tokens, ignore_eos=True),
    )
