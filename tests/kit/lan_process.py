"""A node reduced to its connections, as a process: it listens, looks around on the link, and dials whom it finds.

``python -m tests.kit.lan_process NAME TAG [--psk DIGIT] [--closed] [--listen ADDRESS]``. Each line it prints is
``addresses A…``, ``found ADDRESS``, ``reached PEER``, ``unreachable PEER`` or ``peers PEER…``; each line it reads is
``dial ADDRESS``, ``open`` (its door: ``opened``) or ``block PEER`` (``blocked``). It ends with its standard input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from meshnode.domain import PeerId
from meshnode.errors import Unreachable
from meshnode.net.doorkeeper import Doorkeeper
from meshnode.net.host import Host, open_host
from meshnode.net.lan import Lan, open_lan
from meshnode.net.swarm import own_addresses
from meshnode.net.transport import Limits
from tests.kit.namespaces import Namespace
from tests.kit.peers import identity

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60.0


class LanProcess:
    """The test's side of one such process."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._text = b""

    async def say(self, line: str) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def hear(self, word: str) -> list[str]:
        """What it says next that begins with ``word``; what it says before is passed over."""
        assert self._process.stdout is not None
        with trio.fail_after(PATIENCE_S):
            while True:
                line, newline, rest = self._text.partition(b"\n")
                if newline:
                    self._text = rest
                    said = line.decode().split()
                    if said[:1] == [word]:
                        return said[1:]
                else:
                    data = await self._process.stdout.receive_some()
                    assert data, f"it ended without {word!r}"
                    self._text += data


@asynccontextmanager
async def lan_process(where: Namespace, name: str, tag: str, *options: str) -> AsyncIterator[LanProcess]:
    """A process in a namespace; it has ended when the block is left."""
    command = where.command(sys.executable, "-m", "tests.kit.lan_process", name, tag, *options)
    process = await trio.lowlevel.open_process(command, stdin=-1, stdout=-1, cwd=ROOT)
    try:
        yield LanProcess(process)
    finally:
        with trio.CancelScope(shield=True):
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
            with trio.move_on_after(PATIENCE_S / 2):
                await process.wait()
            process.kill()
            await process.wait()


# --- the process --------------------------------------------------------------------------------


def _tell(word: str, *words: str) -> None:
    sys.stdout.write(" ".join((word, *words)) + "\n")
    sys.stdout.flush()


async def _dial(host: Host, address: str) -> None:
    peer = PeerId(address.rpartition("/")[2])
    host.learn(peer, [address])
    try:
        await host.reach(peer)
    except Unreachable:
        _tell("unreachable", peer)
    else:
        _tell("reached", peer)


async def _look_around(host: Host, lan: Lan) -> None:
    async for address in lan.found:
        _tell("found", address)
        await _dial(host, address)


async def _watch(host: Host) -> None:
    seen: frozenset[PeerId] = frozenset()
    while True:
        seen = await host.wait_change(seen)
        _tell("peers", *seen)


async def _obey(host: Host, door: Doorkeeper) -> None:
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        word, *rest = line.split()
        if word == "open":
            door.open = True
            _tell("opened")
        elif word == "block":
            door.block(PeerId(rest[0]), float("inf"))
            _tell("blocked")
        elif word == "dial":
            await _dial(host, rest[0])


async def _live(options: argparse.Namespace) -> None:
    door = Doorkeeper(own_addresses, trio.current_time)
    door.open = not options.closed
    psk = options.psk.encode() * 32 if options.psk else None
    me = identity(options.name)
    limits = Limits(dial_timeout_s=1.0)  # so long a dial waits where the other network's key says nothing
    async with (
        open_host(me, [options.listen], psk=psk, limits=limits, admits=door, blocked=door.blocked) as host,
        open_lan(me.peer_id, host.addresses, options.tag) as lan,
        trio.open_nursery() as nursery,
    ):
        _tell("addresses", *host.addresses)
        nursery.start_soon(_look_around, host, lan)
        nursery.start_soon(_watch, host)
        await _obey(host, door)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # its output is what it tells
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("tag")
    parser.add_argument("--psk", default="")
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--listen", default="/ip4/0.0.0.0/tcp/9338")
    trio.run(_live, parser.parse_args())
