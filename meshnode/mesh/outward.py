"""What a caller is told of a request that this node does not serve, or failed to. Pure."""

from __future__ import annotations

from meshnode.errors import Cancelled, DeadlineExceeded, MeshnodeError, ProtocolViolation, RequestError, ServingError
from meshnode.events import Failed, kind_of
from meshnode.mesh.admission import LONGEST_DEADLINE_S
from meshnode.wire import messages as m


def refusal(number: int, error: MeshnodeError) -> m.Refuse:
    """A request that is not accepted, and why."""
    wait_ms = round(1000 * (error.retry_after_s or 0.0))
    return m.Refuse(number, error.code, str(error)[:500], wait_ms)


def outward(failed: Failed) -> Failed:
    """A failure as a stranger is told of it: what is wrong with its own request in full, of this node the kind only.

    Our own words name files, devices and the last lines of a worker's log.
    """
    kind = kind_of(failed.code)
    if kind is not None and issubclass(kind, RequestError | ProtocolViolation | Cancelled):
        return failed
    code = failed.code if kind is not None and issubclass(kind, ServingError) else "server_error"
    return Failed(code, "the provider could not serve this.", retry_after_s=failed.retry_after_s)


def too_long() -> DeadlineExceeded:
    """The end of an answer without an end."""
    return DeadlineExceeded(f"the answer took over {LONGEST_DEADLINE_S:g} s, which is the longest here.")
