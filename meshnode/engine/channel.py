"""The worker's end of the pipe: whole messages over a non-blocking socket, without a task or a thread.

Both ends may be slow. What cannot be written yet is kept, and reading goes on while it waits, so that two full socket
buffers never hold each other up. The worker takes no further step while more than :data:`HIGH_WATER` bytes wait.
"""

from __future__ import annotations

import select
import socket
from collections import deque

import msgspec

from meshnode.engine.pipe import PIPE_LIMIT, FromWorker, ToWorker, decode_to_worker, encode
from meshnode.errors import ProtocolViolation
from meshnode.wire.frames import FrameReader, pack

HIGH_WATER = 2**20
"""Bytes that may wait to be written before the worker waits for its parent."""
_CHUNK = 2**18


class HungUpError(Exception):
    """The parent closed its end, or is gone."""


class Channel:
    """Messages in and out of ``sock``, which becomes non-blocking and is closed by its owner.

    What is no message, or a frame over the limit, means that the parent is not who it should be: as good as gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._gone = False
        self._reader = FrameReader(limit=PIPE_LIMIT)
        self._inbox: deque[ToWorker] = deque()
        self._outbox = bytearray()

    @property
    def unsent(self) -> int:
        """Bytes that wait to be written."""
        return len(self._outbox)

    def send(self, message: FromWorker) -> None:
        """Write as much as can be written now, keep the rest. Raises HungUpError."""
        self._outbox += pack(encode(message), limit=PIPE_LIMIT)
        self._write()

    def take(self) -> ToWorker | None:
        """The next message that has come, in order; ``None`` if there is none yet."""
        return self._inbox.popleft() if self._inbox else None

    def peek(self) -> tuple[ToWorker, ...]:
        """The messages that have come and are not taken."""
        return tuple(self._inbox)

    def poll(self, timeout: float | None = 0.0) -> None:
        """Read and write what can be, waiting up to ``timeout`` seconds (``None``: however long) for the first chance.

        Does not wait while a message is there to take. Raises HungUpError.
        """
        if self._gone:
            raise HungUpError
        self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        wait = 0.0 if self._inbox else timeout
        for _, events in self._poll.poll(None if wait is None else 1000 * wait):
            if events & select.POLLOUT:
                self._write()
            if events & ~select.POLLOUT:
                self._read()

    def _read(self) -> None:
        """Everything that has come."""
        while True:
            try:
                data = self._sock.recv(_CHUNK)
                self._inbox += (decode_to_worker(payload) for payload in self._reader.feed(data))
            except BlockingIOError:
                return
            except (OSError, ProtocolViolation, msgspec.DecodeError) as error:
                self._gone = True
                raise HungUpError from error
            if not data:
                self._gone = True
                raise HungUpError
            if len(data) < _CHUNK:
                return

    def _write(self) -> None:
        try:
            while self._outbox:
                sent = self._sock.send(memoryview(self._outbox)[:_CHUNK])
                del self._outbox[:sent]
        except BlockingIOError:
            return
        except OSError as error:
            self._gone = True
            raise HungUpError from error
