"""What both transports do around a stream: count it, and contain whoever serves it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from meshnode.domain import PeerId
from meshnode.errors import Overloaded, PeerError
from meshnode.net.transport import Handler, Stream

log = structlog.get_logger()


class Slots:
    """So many streams per peer at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[PeerId] = Counter()

    @contextmanager
    def hold(self, peer: PeerId) -> Iterator[None]:
        """Hold one of the peer's slots. Raises Overloaded when all are taken."""
        if self._held[peer] >= self._limit:
            raise Overloaded(
                f"{self._held[peer]} streams with {peer} are open, which is the limit.",
                hint="Try again when one has ended.",
                retry_after_s=1.0,
            )
        self._held[peer] += 1
        try:
            yield
        finally:
            self._held[peer] -= 1
            if not self._held[peer]:
                del self._held[peer]


async def serve(handler: Handler, stream: Stream) -> None:
    """Run a handler: its stream is closed when it returns and reset when it raises; no Exception leaves."""
    try:
        await handler(stream)
        await stream.close()
    except PeerError as error:
        log.debug("inbound_stream_ended", peer=stream.peer, protocol=stream.protocol, reason=error.code)
    except Exception as error:
        report(stream.peer, stream.protocol, error)
    finally:
        await stream.reset()  # noqa: ASYNC102  it shields itself; on a closed stream it does nothing


def report(peer: PeerId, protocol: str, error: Exception) -> None:
    """Log a handler's failure by kind and place: its text may hold what was being served."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
    log.error("stream_handler_failed", peer=peer, protocol=protocol, error=type(error).__name__, where=where)
