"""Logs and metrics. The only door to prometheus_client.

Rooms log through ``structlog.get_logger()``: an event in snake_case and keyword values, never a prompt, an answer or
message content. The processors here are the seat belt: fields that could carry content are withheld, long strings are
cut, and an exception is logged as its type and places in the source, without its text. What libraries log through
stdlib ``logging`` takes the same road, warnings and above, so many lines a minute and no more.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol, TextIO, cast

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

WITHHELD: Final = frozenset(
    {"prompt", "messages", "message", "content", "text", "answer", "completion", "body", "arguments"}
)
"""Fields whose value is never logged, whatever room sets them."""
LONGEST_VALUE: Final = 500
"""Characters of one logged string."""
LONGEST_LIBRARY_LINE: Final = 200
"""Characters of what a library said: enough for its sentence, little of any data in it."""
LIBRARY_LINES: Final = 20
"""Lines that one library may log in :data:`LIBRARY_WINDOW_S`."""
LIBRARY_WINDOW_S: Final = 60.0
UNROUTED: Final = ("libp2p", "hypercorn.error", "hypercorn.access")
"""Loggers that cut themselves off from the root when imported, so that stdlib's last resort would print for them."""
FIRST_TOKEN_BUCKETS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

EventDict = MutableMapping[str, Any]


class LogChoice(Protocol):
    """What :func:`configure_logging` needs of the settings."""

    @property
    def level(self) -> str:
        """``debug``, ``info``, ``warning`` or ``error``."""

    @property
    def format(self) -> str:
        """``auto``, ``console`` or ``json``."""


def configure_logging(choice: LogChoice, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Send all logs of this process to ``stream``: for people on a terminal, else one JSON object a line.

    May be called again; the last call counts. ``clock`` (seconds) paces the libraries' lines.
    """
    level = logging.getLevelNamesMapping()[choice.level.upper()]
    console = choice.format == "console" or (choice.format == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            withhold,
            bare_exception,
            _in_order,
            _console(stream) if console else structlog.processors.JSONRenderer(ensure_ascii=False, default=_plain),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Steady(stream))),
        cache_logger_on_first_use=False,
    )
    _route_libraries(LibraryHandler(clock), max(level, logging.WARNING))


def _route_libraries(handler: LibraryHandler, level: int) -> None:
    logging.captureWarnings(True)
    for name in ("", *UNROUTED):
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old, LibraryHandler)]:
            logger.removeHandler(old)
        if not name or not logger.propagate:
            logger.addHandler(handler)
        logger.setLevel(level)


def _console(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)


def _in_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return {**first, **event}


class _Steady:
    """A stream whose failures nobody hears of: a full disk or a closed terminal must not end the node."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line)
        return len(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _plain(value: object) -> str:
    return str(value)[:LONGEST_VALUE]


# --- what may be said -----------------------------------------------------------------------------


def withhold(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Processor: no field that could carry content, no string longer than :data:`LONGEST_VALUE`."""
    for key, value in event.items():
        if key in WITHHELD:
            event[key] = "(withheld)"
        elif isinstance(value, str) and len(value) > LONGEST_VALUE:
            event[key] = value[:LONGEST_VALUE] + "…"
    return event


def bare_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Processor: ``exc_info`` becomes ``exception``, its type and where it passed, without its text."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    elif given and not isinstance(given, BaseException):
        given = sys.exception()
    if isinstance(given, BaseException):
        event["exception"] = "\n".join(describe(given))
    return event


def describe(error: BaseException) -> list[str]:
    """An exception without its text (which may quote content): type, then ``file:line function``, innermost last.

    The exceptions of a group, and the causes of each, follow in turn.
    """
    lines = [f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")]
    lines += [f"  {frame}" for frame in _frames(error.__traceback__)]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += describe(inner)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines + (["caused by:", *describe(cause)] if cause else [])


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


# --- libraries ------------------------------------------------------------------------------------


class LibraryHandler(logging.Handler):
    """Hands the records of stdlib loggers to structlog, at most :data:`LIBRARY_LINES` per library and window.

    The first line of a new window says how many were dropped in the last.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record, or drop and count it. Never raises."""
        library = record.name.partition(".")[0]
        window = self._windows.setdefault(library, _Window(self._clock()))
        dropped = window.admit(self._clock())
        if dropped is None:
            return
        log = structlog.get_logger()
        if dropped:
            log.warning("library_lines_dropped", library=library, lines=dropped)
        try:
            said = record.getMessage()
        except Exception:
            said = str(record.msg)
        said = said.strip()[:LONGEST_LIBRARY_LINE]
        log.log(record.levelno, "library_message", library=record.name, said=said, exc_info=record.exc_info)


class _Window:
    """Fixed window of one library's lines."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._lines = 0

    def admit(self, now: float) -> int | None:
        """How many lines were dropped before this one (0 mostly), or None to drop it too."""
        dropped = 0
        if now - self._began >= LIBRARY_WINDOW_S:
            dropped = max(0, self._lines - LIBRARY_LINES)
            self._began, self._lines = now, 0
        self._lines += 1
        return dropped if self._lines <= LIBRARY_LINES else None


# --- metrics --------------------------------------------------------------------------------------


class Metrics:
    """The node's metrics on a registry of their own. Rooms are handed this object and set what is theirs.

    The ``model`` label takes names of models the library holds, never what a caller typed: labels are kept for ever.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # process-wide, and wanted: a second line per series that nobody reads
        registry = CollectorRegistry()
        self._registry = registry
        self.requests_processing = Gauge(
            "meshnode_requests_processing", "Requests being answered now.", registry=registry
        )
        self.requests_total = Counter(
            "meshnode_requests",
            "Requests ended, by outcome: ok, or the error's code.",
            ["model", "outcome"],
            registry=registry,
        )
        self.prompt_tokens_total = Counter("meshnode_prompt_tokens", "Prompt tokens taken.", registry=registry)
        self.completion_tokens_total = Counter("meshnode_completion_tokens", "Tokens generated.", registry=registry)
        self.time_to_first_token = Histogram(
            "meshnode_time_to_first_token_seconds",
            "From a request's arrival to its first text.",
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self.queue_length = Gauge("meshnode_queue_length", "Requests waiting for a slot.", registry=registry)
        self.batch_lines_running = Gauge(
            "meshnode_batch_lines_running", "Requests of batches being answered now.", registry=registry
        )
        self.batch_lines_waiting = Gauge(
            "meshnode_batch_lines_waiting", "Requests of batches not answered yet.", registry=registry
        )
        self.worker_restarts_total = Counter(
            "meshnode_worker_restarts", "Engine workers started again after they died.", ["model"], registry=registry
        )
        self.loop_lag = Histogram(
            "meshnode_loop_lag_seconds",
            "How late the event loop woke a task that slept.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        ProcessCollector(namespace="meshnode", registry=registry)

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
