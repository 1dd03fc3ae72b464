"""What libp2p and zeroconf log, brought into our log and kept short: a peer can make it say a great deal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Quiet(logging.Handler):
    """Hands warnings to our log: at most ``burst`` in a minute, the rest counted, each one short (guard 12)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, burst: int = 20) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._burst = burst
        self._minute = clock()
        self._said = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's first line, or count it as dropped."""
        if self._clock() - self._minute >= 60:
            dropped = self._said - self._burst
            self._minute, self._said = self._clock(), 0
            if dropped > 0:
                log.warning("libp2p_log_dropped", records=dropped)
        self._said += 1
        if self._said <= self._burst:
            line = record.getMessage().partition("\n")[0][:200]
            log.info(record.name.partition(".")[0], said=line, logger=record.name, level=record.levelname.lower())


def quieten(logger: logging.Logger) -> None:
    """Let ``logger`` and those below it speak through Quiet only. May be called again."""
    if not any(isinstance(handler, Quiet) for handler in logger.handlers):
        logger.addHandler(Quiet())
    logger.propagate = False
