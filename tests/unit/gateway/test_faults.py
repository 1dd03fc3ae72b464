"""What nobody expected comes out as an error of the tree."""

from __future__ import annotations

import pytest
import structlog

from meshnode.errors import DeadlineExceeded, InternalFault, Overloaded
from meshnode.gateway.faults import as_error


def test_an_unexpected_error_is_logged_by_place_and_says_nothing_of_itself() -> None:
    def crash() -> None:
        raise ValueError("the prompt was: SECRET")

    with structlog.testing.capture_logs() as logs, pytest.raises(ValueError) as caught:
        crash()
    with structlog.testing.capture_logs() as logs:
        error = as_error(caught.value, "req_7")
    assert isinstance(error, InternalFault)
    assert "req_7" in str(error)
    assert "SECRET" not in str(error) + str(logs)
    assert logs[0]["request_id"] == "req_7"
    assert "ValueError" in logs[0]["crashes"][0]
    assert "crash" in logs[0]["crashes"][0]


def test_an_error_of_ours_is_found_inside_a_group() -> None:
    ours = Overloaded("x")
    assert as_error(ExceptionGroup("", [ExceptionGroup("", [ours])]), "r") is ours


def test_a_timeout_is_a_deadline() -> None:
    assert isinstance(as_error(TimeoutError("SECRET"), "r"), DeadlineExceeded)
