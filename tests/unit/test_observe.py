"""Logs that never hold content, libraries that cannot flood them, and metrics."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from meshnode.config import LogSettings
from meshnode.observe import LIBRARY_LINES, LIBRARY_WINDOW_S, UNROUTED, LibraryHandler, Metrics, configure_logging

CANARY = "zebra canary"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    libraries = [logging.getLogger(name) for name in UNROUTED]
    before = [(list(logger.handlers), logger.propagate) for logger in libraries]
    for logger in libraries:
        logger.handlers.clear()  # a node that ran in this process left its own, which would speak too
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, (theirs, propagate) in zip(libraries, before, strict=True):
        logger.handlers[:] = theirs
        logger.propagate = propagate
    logging.captureWarnings(False)
    structlog.reset_defaults()


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def to_json(level: str = "info", clock: Clock | None = None) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LogSettings(level=level), stream, clock=clock or Clock())
    return stream


def fail() -> None:
    raise ValueError(CANARY)


# --- our own --------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_time_level_and_event() -> None:
    stream = to_json()
    structlog.get_logger().info("node_started", peer_id="12D3", port=9337)
    (line,) = logged(stream)
    assert (line["event"], line["level"], line["peer_id"], line["port"]) == ("node_started", "info", "12D3", 9337)
    assert line["timestamp"].endswith("Z")


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Terminal()
    configure_logging(LogSettings(), stream)
    structlog.get_logger().warning("queue_full", waiting=3)
    assert "queue_full" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_is_below_the_level_is_not_logged() -> None:
    stream = to_json("warning")
    structlog.get_logger().info("small")
    structlog.get_logger().warning("large")
    assert [line["event"] for line in logged(stream)] == ["large"]


def test_the_last_configuration_counts_and_nothing_is_said_twice() -> None:
    first, second = to_json(), to_json()
    structlog.get_logger().warning("once")
    logging.getLogger("some.library").warning("once too")
    assert not first.getvalue()
    assert len(logged(second)) == 2


@pytest.mark.parametrize("field", ["prompt", "messages", "content", "text", "body", "arguments"])
def test_a_field_that_could_hold_content_is_withheld(field: str) -> None:
    stream = to_json()
    structlog.get_logger().error("mistake", **{field: CANARY})
    assert CANARY not in stream.getvalue()


def test_long_values_are_cut() -> None:
    stream = to_json()
    structlog.get_logger().info("long", value="x" * 100_000)
    assert len(stream.getvalue()) < 1000


def test_an_exception_is_logged_by_type_and_place_without_its_text() -> None:
    stream = to_json()
    try:
        try:
            fail()
        except ValueError as error:
            raise ExceptionGroup(CANARY, [KeyError(CANARY), error]) from error
    except ExceptionGroup:
        structlog.get_logger().exception("broke")
    (line,) = logged(stream)
    assert CANARY not in stream.getvalue()
    for words in ("ExceptionGroup", "KeyError", "ValueError", "caused by", "test_observe.py", " fail"):
        assert words in line["exception"]


def test_a_stream_that_fails_does_not_end_the_node() -> None:
    configure_logging(LogSettings(), Full())
    structlog.get_logger().error("nobody_hears")


# --- libraries ------------------------------------------------------------------------------------


def test_a_librarys_warning_comes_through_and_its_chatter_does_not() -> None:
    stream = to_json("debug")
    logging.getLogger("hypercorn.error").warning("port %d", 5)
    logging.getLogger("hypercorn.error").info("chatter")
    (line,) = logged(stream)
    assert (line["event"], line["library"], line["said"]) == ("library_message", "hypercorn.error", "port 5")


def test_a_library_that_cut_itself_off_comes_through_once() -> None:
    logging.getLogger("libp2p").propagate = False
    stream = to_json()
    logging.getLogger("libp2p.network").warning("peer left")
    assert [line["said"] for line in logged(stream)] == ["peer left"]


def test_a_librarys_exception_is_bare_too() -> None:
    stream = to_json()
    try:
        fail()
    except ValueError:
        logging.getLogger("quart.app").exception("request failed")
    assert CANARY not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_a_librarys_malformed_record_raises_nothing() -> None:
    stream = to_json()
    LibraryHandler(Clock()).handle(logging.LogRecord("some.library", logging.WARNING, "x.py", 1, "%d", ("x",), None))
    assert logged(stream)[0]["said"] == "%d"


def test_a_library_cannot_flood_the_log_and_others_still_speak() -> None:
    clock = Clock()
    stream = to_json(clock=clock)
    for number in range(LIBRARY_LINES + 480):
        logging.getLogger(f"noisy.part{number % 7}").warning("again")
    logging.getLogger("quiet").warning("hear me")
    assert len(logged(stream)) == LIBRARY_LINES + 1
    clock.now += LIBRARY_WINDOW_S
    logging.getLogger("noisy").warning("after a while")
    dropped, said = logged(stream)[-2:]
    assert (dropped["event"], dropped["lines"]) == ("library_lines_dropped", 480)
    assert said["said"] == "after a while"


def test_warnings_are_logged() -> None:
    stream = to_json()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old spelling", UserWarning, stacklevel=1)
    assert "old spelling" in logged(stream)[0]["said"]


# --- metrics --------------------------------------------------------------------------------------


def samples(metrics: Metrics) -> dict[str, float]:
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {sample.name + str(sample.labels or ""): sample.value for family in families for sample in family.samples}


def test_every_metric_promised_is_there_from_the_start() -> None:
    names = {name.partition("{")[0] for name in samples(Metrics())}
    assert names >= {
        "meshnode_requests_processing", "meshnode_prompt_tokens_total", "meshnode_completion_tokens_total",
        "meshnode_time_to_first_token_seconds_count", "meshnode_queue_length", "meshnode_loop_lag_seconds_count",
    }  # fmt: skip


def test_what_is_counted_is_rendered() -> None:
    metrics = Metrics()
    metrics.requests_total.labels(model="a:q8_0", outcome="ok").inc()
    metrics.worker_restarts_total.labels(model="a:q8_0").inc(2)
    metrics.time_to_first_token.observe(0.3)
    metrics.requests_processing.set(4)
    found = samples(metrics)
    assert found["meshnode_requests_total{'model': 'a:q8_0', 'outcome': 'ok'}"] == 1
    assert found["meshnode_worker_restarts_total{'model': 'a:q8_0'}"] == 2
    assert found["meshnode_time_to_first_token_seconds_count"] == 1
    assert found["meshnode_requests_processing"] == 4


def test_two_nodes_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.prompt_tokens_total.inc(5)
    assert samples(second)["meshnode_prompt_tokens_total"] == 0
