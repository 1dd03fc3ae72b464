"""Real processes on two machines of one link: who finds whom, who may connect, and who is kept out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.kit.lan_process import ROOT, lan_process
from tests.kit.namespaces import Namespace, joined_namespaces
from tests.kit.peers import ALICE, BOB, CAROL, identity

pytestmark = pytest.mark.root

TAG, OTHER = "ab" * 16, "cd" * 16
DAVE = identity("dave")


@pytest.fixture
def link() -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines on one link."""
    with joined_namespaces() as both:
        yield both


async def test_two_machines_find_and_connect_to_each_other(link: tuple[Namespace, Namespace]) -> None:
    here, there = link
    async with lan_process(here, "alice", TAG) as alice:
        assert await alice.hear("addresses") == [f"/ip4/{here.address}/tcp/9338/p2p/{ALICE.peer_id}"]
        async with lan_process(there, "bob", TAG) as bob:
            assert await alice.hear("found") == [f"/ip4/{there.address}/tcp/9338/p2p/{BOB.peer_id}"]
            assert await alice.hear("reached") == [BOB.peer_id]
            assert await bob.hear("found") == [f"/ip4/{here.address}/tcp/9338/p2p/{ALICE.peer_id}"]
            assert await bob.hear("reached") == [ALICE.peer_id]
        async with lan_process(there, "carol", TAG):
            assert await alice.hear("reached") == [CAROL.peer_id]


@pytest.mark.slow
async def test_another_network_is_neither_found_nor_let_in(link: tuple[Namespace, Namespace]) -> None:
    """Dave finds Bob, whose tag he has and whose key he has not; Alice finds Carol, who came later, and nobody else."""
    here, there = link
    async with (
        lan_process(here, "alice", TAG, "--psk", "1") as alice,
        lan_process(here, "dave", OTHER, "--listen", "/ip4/0.0.0.0/tcp/9339") as dave,
        lan_process(there, "bob", OTHER, "--psk", "2") as bob,
    ):
        assert await dave.hear("found") == [f"/ip4/{there.address}/tcp/9338/p2p/{BOB.peer_id}"]
        assert await dave.hear("unreachable") == [BOB.peer_id]
        assert await bob.hear("unreachable") == [DAVE.peer_id]
        async with lan_process(there, "carol", TAG, "--psk", "1", "--listen", "/ip4/0.0.0.0/tcp/9339"):
            assert await alice.hear("found") == [f"/ip4/{there.address}/tcp/9339/p2p/{CAROL.peer_id}"]
            assert await alice.hear("peers") == [CAROL.peer_id]
            for stranger in (bob, dave):
                await stranger.say(f"dial /ip4/{here.address}/tcp/9338/p2p/{ALICE.peer_id}")
                assert await stranger.hear("unreachable") == [ALICE.peer_id]


async def test_who_joined_nothing_lets_in_only_this_machine(link: tuple[Namespace, Namespace]) -> None:
    here, there = link
    async with (
        lan_process(here, "alice", TAG, "--closed") as alice,
        lan_process(there, "bob", OTHER) as bob,
        lan_process(here, "carol", OTHER, "--listen", "/ip4/127.0.0.1/tcp/9339") as carol,
    ):
        (address,) = await alice.hear("addresses")
        assert f"/{here.address}/" in address
        await bob.say(f"dial {address}")
        assert await bob.hear("unreachable") == [ALICE.peer_id]
        for host in (here.address, "127.0.0.1"):
            await carol.say(f"dial /ip4/{host}/tcp/9338/p2p/{ALICE.peer_id}")
            assert await carol.hear("reached") == [ALICE.peer_id]
        assert await alice.hear("peers") == [CAROL.peer_id], "Bob was never one of them"
        await alice.say("open")
        await alice.hear("opened")
        await bob.say(f"dial {address}")
        assert await bob.hear("reached") == [ALICE.peer_id]


async def test_who_is_banned_is_kept_out_on_both_sides(link: tuple[Namespace, Namespace]) -> None:
    here, there = link
    async with lan_process(here, "alice", TAG) as alice, lan_process(there, "bob", OTHER) as bob:
        (ours,), (theirs,) = await alice.hear("addresses"), await bob.hear("addresses")
        await alice.say(f"block {BOB.peer_id}")
        await alice.hear("blocked")
        await bob.say(f"dial {ours}")
        assert await bob.hear("unreachable") == [ALICE.peer_id]
        await alice.say(f"dial {theirs}")
        assert await alice.hear("unreachable") == [BOB.peer_id]


SILENT = f"""
import trio
from meshnode.net.lan import open_lan

async def main():
    async with open_lan("{ALICE.peer_id}", [], "{TAG}") as lan:
        with trio.move_on_after(1):
            await lan.found.receive()

trio.run(main)
"""


def test_a_machine_without_interfaces_finds_nobody_and_goes_on() -> None:
    with joined_namespaces(up=False) as (here, _):
        command = here.command(sys.executable, "-c", SILENT)
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    (line,) = told.stdout.splitlines()
    assert "lan_discovery_off" in line
    assert "No interfaces" in line
