"""Where the API listens: what is safe is decided first, then the sockets are opened.

Off loopback the API refuses to start without keys and TLS (threat 4). On loopback it listens on both families, for
``localhost`` means either one to different clients.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Final, NamedTuple

from meshnode.config import ApiSettings
from meshnode.errors import ConfigError, PortInUse, UnsafeBind

BACKLOG: Final = 256
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
_TRIES: Final = 16


class Bind(NamedTuple):
    """One address to listen on; ``optional``: silently absent where the machine has no IPv6."""

    host: str
    optional: bool = False


def plan(settings: ApiSettings) -> tuple[Bind, ...]:
    """The addresses to listen on. Pure. Raises UnsafeBind or ConfigError."""
    if (settings.tls_cert is None) is not (settings.tls_key is None):
        missing = "api.tls_key" if settings.tls_key is None else "api.tls_cert"
        raise ConfigError(f"{missing} is missing.", hint="TLS needs both api.tls_cert and api.tls_key.")
    if settings.host in ("localhost", "127.0.0.1"):
        return (Bind("127.0.0.1"), Bind("::1", optional=True))
    try:
        address = ip_address(settings.host)
    except ValueError:
        raise ConfigError(
            f"api.address: {settings.host} is a name.", hint="Give the IP address to listen on, or localhost."
        )
    if not address.is_loopback:
        _check_safe(settings)
    return (Bind(str(address)),)


def open_sockets(settings: ApiSettings) -> list[socket.socket]:
    """Listening sockets, all on one port. Raises PortInUse, UnsafeBind or ConfigError; leaves none open then."""
    binds = plan(settings)
    for _ in range(_TRIES if settings.port == 0 else 1):
        try:
            return _open_all(binds, settings.port)
        except OSError as error:
            failure = error
    raise _explain(failure, settings)


def _check_safe(settings: ApiSettings) -> None:
    needed = {"api.key_file": settings.key_file, "api.tls_cert": settings.tls_cert, "api.tls_key": settings.tls_key}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UnsafeBind(
            f"the API would listen on {settings.address}, where others can reach it, without {', '.join(missing)}.",
            hint="Set them in config.toml, or stay on loopback: meshnode up --api 127.0.0.1:9337",
        )


def _open_all(binds: tuple[Bind, ...], port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for bind in binds:
            try:
                opened.append(_open(bind.host, port))
            except OSError as error:
                if not (bind.optional and error.errno in _NO_IPV6):
                    raise
            port = opened[0].getsockname()[1]
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _open(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def _explain(error: OSError, settings: ApiSettings) -> ConfigError | PortInUse:
    if error.errno == errno.EADDRINUSE:
        other = settings.port + 1 if settings.port < 65535 else 9337
        host = settings.address.rpartition(":")[0]
        return PortInUse(
            f"port {settings.port} of {host} is in use by another program.",
            hint=f"Take another: meshnode up --api {host}:{other}",
        )
    reason = error.strerror or str(error)
    return ConfigError(
        f"the API cannot listen on {settings.address}: {reason}.", hint="Give another with --api HOST:PORT."
    )
