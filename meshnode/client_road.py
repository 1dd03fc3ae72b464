"""The way to a node: its control socket in a home, or its address; and what is said when it is not there.

Beside :mod:`meshnode.client` and :mod:`meshnode.client_trio` the only door to httpx2 for what goes to a node.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from meshnode.client_reading import TIMEOUT_S
from meshnode.errors import ConfigError, DeadlineExceeded, Forbidden, NodeNotRunning

CONTROL_SOCKET: Final = "control.sock"
KNOCK_TIMEOUT_S: Final = 5.0


class Road(NamedTuple):
    """One way to a node: where it goes, in words, and what to do when nobody is there.

    ``socket`` is the control socket; without one the way is ``url``. ``ca`` has the certificates to trust.
    """

    place: str
    remedy: str
    url: str = "http://localhost"
    socket: Path | None = None
    key: str | None = None
    ca: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """What a client of httpx2 is made with, but for the transport."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return {"base_url": self.url, "headers": headers, "trust_env": False, "timeout": TIMEOUT_S}


def home_road(home: Path) -> Road:
    """The way to the node that runs on ``home``. Raises NodeNotRunning when nothing listens on its socket."""
    _knock(home)
    return Road(f"on {home}", f"Start one: {start_command(home)}", socket=home / CONTROL_SOCKET)


def url_road(url: str, *, key: str | None = None, ca_file: Path | None = None) -> Road:
    """The way to the node at ``url``, with ``/v1`` or without. Raises ConfigError."""
    bare = url.strip().rstrip("/").removesuffix("/v1")
    if not bare.startswith(("http://", "https://")) or bare[-3:] == "://":
        raise ConfigError(f"{url[:96]!r} is not the address of a node.", hint="Such as http://127.0.0.1:9337.")
    try:
        trusted = ssl.create_default_context(cafile=ca_file) if ca_file is not None else None
    except OSError as error:
        raise ConfigError(f"{ca_file} cannot be read as certificates: {error.strerror or error}.")
    return Road(f"at {bare}", "Is it running, and is that its address?", url=bare, key=key, ca=trusted)


def start_command(home: Path) -> str:
    """The command line that starts a node on ``home``."""
    return "meshnode up" if home == Path.home() / ".meshnode" else f"meshnode up --home {home}"


def timeouts(read_s: float) -> httpx2.Timeout:
    """The usual ones, but for how long an answer may be silent."""
    return httpx2.Timeout(TIMEOUT_S, read=read_s)


@contextlib.contextmanager
def translated(road: Road) -> Iterator[None]:
    """httpx2's exceptions as ours."""
    try:
        yield
    except httpx2.ConnectError as error:
        raise _not_running(road) from error
    except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
        again = road.remedy.replace("Start one", "Start it again")
        raise NodeNotRunning(f"The node {road.place} ended before it had answered.", hint=again) from error
    except httpx2.TimeoutException as error:
        raise DeadlineExceeded(
            f"The node {road.place} did not answer in time.", hint="Look at its log; `meshnode status` asks again."
        ) from error


def _knock(home: Path) -> None:
    """Connect and hang up: the socket's own errors tell an absent node from a forbidden one."""
    path = home / CONTROL_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(KNOCK_TIMEOUT_S)
        try:
            knock.connect(str(path))
        except PermissionError:
            raise Forbidden(f"{path} belongs to another user.", hint="Run this as that user.")
        except (TimeoutError, BlockingIOError):
            raise DeadlineExceeded(f"The node on {home} does not answer.", hint="Look at its log, or kill it.")
        except OSError as error:
            raise _not_running(Road(f"on {home}", f"Start one: {start_command(home)}")) from error


def _not_running(road: Road) -> NodeNotRunning:
    return NodeNotRunning(f"No node is running {road.place}.", hint=road.remedy)
