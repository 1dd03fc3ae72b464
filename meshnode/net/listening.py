"""Where a node listens: ports that are its alone, and what ``0.0.0.0`` means to others."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from meshnode.errors import ConfigError, PortInUse
from meshnode.net.transport import Address


def claim(address: Address) -> None:
    """Make sure that the port is ours alone (guard 19): libp2p shares it with any program of the same user."""
    if address.port == 0:
        return
    family = socket.AF_INET if address.kind == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise cannot_listen(address, error) from error


def cannot_listen(address: Address, error: OSError) -> PortInUse | ConfigError:
    """What it means to the owner that ``address`` could not be bound."""
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Another program listens on {address}.",
            hint="Stop it (is it another meshnode?), or choose another port with --listen.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(f"This user may not listen on {address}.", hint="Choose a port of 1024 or more.")
    return ConfigError(
        f"This machine cannot listen on {address}: {os.strerror(error.errno or 0)}.",
        hint="Use an address of one of its interfaces, or /ip4/0.0.0.0/tcp/9338 for all of them.",
    )


def spelt_out(address: Address, interfaces: Iterable[str]) -> list[Address]:
    """``0.0.0.0`` and ``::`` as the addresses of this machine's ``interfaces``; any other address as it is.

    Link-local ones are left out: they mean nothing on another link. With no other, loopback is all there is.
    """
    if not address.unspecified:
        return [address]
    loopback = "127.0.0.1" if address.kind == "ip4" else "::1"
    hosts = [host for host in interfaces if not host.lower().startswith(("fe80:", "169.254."))] or [loopback]
    return [address._replace(host=host.partition("%")[0]) for host in hosts]
