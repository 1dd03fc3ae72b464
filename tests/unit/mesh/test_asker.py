"""What a peer's refusal is taken for."""

from __future__ import annotations

import pytest

from meshnode.errors import MeshnodeError, Overloaded, PeerError, RateLimited, StreamReset, Unreachable
from meshnode.events import Failed, Started
from meshnode.mesh.ask import Asking
from meshnode.mesh.asker import Asker, PeerHung, PeerRefused, meant, theirs
from meshnode.wire.messages import Refuse


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("overloaded", Overloaded),
        ("rate_limit_exceeded", RateLimited),
        ("peer_unreachable", Unreachable),
        ("a word of its own", PeerError),
        ("disk_full", PeerError),
        ("", PeerError),
    ],
)
def test_a_refusal_is_the_error_its_code_names(code: str, kind: type[MeshnodeError]) -> None:
    told = meant(PeerRefused(Refuse(7, code, "no.", retry_after_ms=3000)))
    assert type(told) is kind
    assert (told.message, told.retry_after_s) == ("no.", 3.0)


def test_any_other_error_says_what_it_is() -> None:
    for error in (StreamReset("x"), PeerHung("x")):
        assert meant(error) is error


def test_a_peers_failure_never_speaks_of_this_machine() -> None:
    assert theirs(Failed("disk_full", "x")) == Failed(PeerError.code, "x")
    for event in (Failed("overloaded", "x"), Failed("a word of its own", "x"), Started(6)):
        assert theirs(event) is event


def test_asking_is_what_dispatching_takes() -> None:
    """Held by the type checker: this line has to pass it."""
    asker: type[Asker] = Asking
    assert asker is Asking
