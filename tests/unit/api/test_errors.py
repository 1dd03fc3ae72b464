"""The error tree as HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshnode.api.errors import MAX_RETRY_AFTER_S, envelope, headers
from meshnode.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidField,
    MeshnodeError,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    RateLimited,
    Unauthorized,
)
from meshnode.events import Failed, error_of


def tree(kind: type[MeshnodeError] = MeshnodeError) -> Iterator[type[MeshnodeError]]:
    for child in kind.__subclasses__():
        if child.__module__ == MeshnodeError.__module__:
            yield child
        yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_survives_the_road_as_an_event(kind: type[MeshnodeError]) -> None:
    error = error_of(Failed(kind.code, "what was wrong.", hint="What to do.", param="field", retry_after_s=3))
    assert type(error) is kind
    assert envelope(error)["error"] | {"type": ""} == {
        "message": "what was wrong. What to do.",
        "type": "",
        "param": "field",
        "code": kind.code,
    }


def test_a_code_nobody_knows_is_our_fault() -> None:
    assert type(error_of(Failed("martian", "x"))) is InternalFault


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidField("x"), "invalid_request_error"),
        (ModelNotFound("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (RateLimited("x"), "rate_limit_error"),
        (Overloaded("x"), "server_error"),
    ],
)
def test_types_are_openais(error: MeshnodeError, kind: str) -> None:
    assert envelope(error)["error"]["type"] == kind


def test_what_passes_by_itself_says_when_to_try_again() -> None:
    assert headers(Overloaded("x", retry_after_s=0.25)) == {
        "x-should-retry": "true",
        "Retry-After": "1",
        "retry-after-ms": "250",
    }
    assert headers(ModelLoading("x", retry_after_s=1e9))["Retry-After"] == str(round(MAX_RETRY_AFTER_S))
    assert headers(ModelLoading("x"))["x-should-retry"] == "true"


@pytest.mark.parametrize("error", [ModelFailed("x"), InvalidField("x"), DeadlineExceeded("x"), InternalFault("x")])
def test_what_does_not_pass_says_so(error: MeshnodeError) -> None:
    assert headers(error) == {"x-should-retry": "false"}
