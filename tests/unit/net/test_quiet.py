"""A peer that makes libp2p warn does not fill our log."""

from __future__ import annotations

import logging

from structlog.testing import capture_logs

from meshnode.net.quiet import Quiet, quieten


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("libp2p.x", logging.WARNING, "x.py", 1, text, values, None)


def test_a_minute_has_so_many_lines_and_then_their_number() -> None:
    clock = Clock()
    quiet = Quiet(clock, burst=2)
    with capture_logs() as logs:
        for number in range(1000):
            quiet.emit(record("warning %d", number))
        assert [entry["said"] for entry in logs] == ["warning 0", "warning 1"]
        clock.now += 61
        quiet.emit(record("later"))
    assert logs[2]["records"] == 998
    assert logs[3]["said"] == "later"


def test_a_line_is_one_short_line() -> None:
    with capture_logs() as logs:
        Quiet(Clock()).emit(record("x" * 500 + "\n" + "traceback " * 100))
    assert logs[0]["said"] == "x" * 200
    assert logs[0]["logger"] == "libp2p.x"


def test_a_logger_gets_it_once_and_passes_nothing_on() -> None:
    logger = logging.getLogger("meshnode-test.quiet")
    quieten(logger)
    quieten(logger)
    assert len(logger.handlers) == 1
    with capture_logs() as logs:
        logger.getChild("below").warning("said once")
        logger.getChild("below").info("not worth it")
    assert [entry["said"] for entry in logs] == ["said once"]
    assert not logger.propagate
