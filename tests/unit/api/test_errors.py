"""The error tree as HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshnode.api.errors import MAX_RETRY_AFTER_S, anthropic, envelope, headers
from meshnode.api.responses.shape import fault
from meshnode.errors import (
    DamagedDatabase,
    DeadlineExceeded,
    DiskFull,
    HomeInUse,
    HomeUnusable,
    InternalFault,
    InvalidField,
    MeshnodeError,
    ModelFailed,
    ModelFileRefused,
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
    assert envelope(error, owner=True)["error"] | {"type": ""} == {
        "message": "what was wrong. What to do.",
        "type": "",
        "param": "field",
        "code": kind.code,
    }


@pytest.mark.parametrize("kind", [DiskFull, DamagedDatabase, HomeUnusable, HomeInUse, ModelFileRefused])
def test_what_only_the_owner_can_mend_is_told_to_others_without_its_words(kind: type[MeshnodeError]) -> None:
    error = kind("no room at /home/me.", hint="Look into /home/me/meshnode.db.", param="field")
    for told in (envelope(error), anthropic(error), fault(error)):
        assert "/home/me" not in str(told)
        assert "owner can mend" in str(told)
    assert envelope(error)["error"]["code"] == kind.code


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
