"""Two machines on one link, without leaving this one: network namespaces joined by a pair of virtual interfaces.

Needs root and ``ip`` (Debian: iproute2). As root in CI a missing ``ip`` fails the test; elsewhere it is skipped.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

_numbers = itertools.count()


class Namespace(NamedTuple):
    """A network of its own, with loopback and one interface; ``address`` is the interface's IPv4 address."""

    name: str
    address: str

    def command(self, *words: str) -> list[str]:
        """The command line that runs ``words`` in it."""
        return ["ip", "netns", "exec", self.name, *words]


@contextmanager
def joined_namespaces(*, up: bool = True) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces that reach each other and nobody else; with ``up`` false they have no addresses, nor loopback."""
    if shutil.which("ip") is None and not (os.environ.get("CI") and os.geteuid() == 0):
        pytest.skip("needs ip (Debian: apt-get install iproute2)")
    tag = f"mn{os.getpid()}n{next(_numbers)}"  # an interface's name has at most 15 characters
    both = tuple(Namespace(f"{tag}{side}", f"10.203.0.{number}") for number, side in enumerate("ab", 1))
    with ExitStack() as stack:
        for each in both:
            _ip("netns", "add", each.name)
            stack.callback(_ip, "netns", "delete", each.name)  # and with it what lies in it
        _ip("link", "add", both[0].name, "type", "veth", "peer", "name", both[1].name)
        for each in both:
            _ip("link", "set", each.name, "netns", each.name)
            if up:
                _ip("-n", each.name, "address", "add", f"{each.address}/24", "dev", each.name)
                for interface in ("lo", each.name):
                    _ip("-n", each.name, "link", "set", interface, "up")
        yield both[0], both[1]


def _ip(*words: str) -> None:
    told = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 0, f"ip {' '.join(words)}: {told.stderr}"
