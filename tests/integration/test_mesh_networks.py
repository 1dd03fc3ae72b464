"""Who gets in and who finds whom: keys, closed doors, the local network, and the directory. Real processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.kit.meshes import apart, chat, kept_by, listed, until
from tests.kit.namespaces import Namespace, joined_namespaces
from tests.kit.node import Node, running_node
from tests.kit.tinygguf import write_tiny_gguf

pytestmark = pytest.mark.slow

MDNS_PORT = 5353
SEEN_S = 10.0
EVERYWHERE = ("--listen", "/ip4/0.0.0.0/tcp/9338")


def key_file(folder: Path, name: str, digit: str) -> str:
    path = folder / name
    path.write_text(digit * 64 + "\n")
    path.chmod(0o600)
    return str(path)


# --- a private network ------------------------------------------------------------------------------


def test_a_private_network_lets_in_who_has_its_key_and_nobody_else(tmp_path: Path) -> None:
    ours, other = key_file(tmp_path, "ours.key", "a"), key_file(tmp_path, "other.key", "b")
    with ExitStack() as stack:

        def start(name: str, *flags: str) -> Node:
            return stack.enter_context(running_node(tmp_path / name, "--no-lan", "--client-only", *flags))

        inside = start("inside", "--private-network", ours)
        strangers = [start("other", "--private-network", other), start("none")]
        with ThreadPoolExecutor() as threads:  # each waits for a handshake that never ends
            refusals = list(threads.map(lambda stranger: stranger.meshnode("join", inside.address), strangers))
        for stranger, refused in zip(strangers, refusals, strict=True):
            assert refused.returncode == 24, refused.stderr
            (line,) = refused.stderr.splitlines()
            assert line.startswith("meshnode: ")
            assert inside.peer in line
            assert stranger.told("peers") == {"peers": []}
            assert stranger.status()["mesh"]["joined"] is (stranger.home.name == "other")
        friend = start("friend", "--private-network", ours)
        assert friend.told("join", inside.address) == {"peer": inside.peer}
        assert [peer["peer"] for peer in inside.told("peers")["peers"]] == [friend.peer]


def test_joining_a_network_of_another_name_says_so(tmp_path: Path) -> None:
    with (
        running_node(tmp_path / "here", *apart(), "--open", "--client-only") as here,
        running_node(tmp_path / "there", *apart(), "--client-only") as there,
    ):
        refused = there.meshnode("join", here.address)
        assert refused.returncode == 24, refused.stderr
        (line,) = refused.stderr.splitlines()
        assert "--network" in line
        assert there.status()["mesh"]["joined"] is False
        assert [peer["connected"] for node in (here, there) for peer in node.told("peers")["peers"]] in (
            [False],
            [False] * 2,
        )
        assert "another network" in here.meshnode("peers").stdout + there.meshnode("peers").stdout


# --- a closed door, and the local network -----------------------------------------------------------


@pytest.fixture
def link() -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines on one link."""
    with joined_namespaces() as both:
        yield both


def speaks_mdns(node: Node) -> bool:
    """Whether anybody in its network namespace holds mDNS's port."""
    table = Path(f"/proc/{node.process.pid}/net/udp").read_text().splitlines()[1:]
    return any(int(row.split()[1].rpartition(":")[2], 16) == MDNS_PORT for row in table)


@pytest.mark.root
def test_who_joined_nothing_keeps_other_machines_out_and_stays_silent(
    tmp_path: Path, link: tuple[Namespace, Namespace]
) -> None:
    """Not even through a friend on its own machine who is in a mesh, and whose word brings strangers' addresses."""
    here, there = link
    model = str(write_tiny_gguf(tmp_path / "tiny-q8_0.gguf"))
    with ExitStack() as stack:

        def start(name: str, where: Namespace, *flags: str) -> Node:
            node = running_node(tmp_path / name, "--client-only", *flags, within=where.command())
            return stack.enter_context(node)

        alone = start("alone", here, *EVERYWHERE)
        stranger = start("stranger", there, *EVERYWHERE)
        refused = stranger.meshnode("join", f"/ip4/{here.address}/tcp/9338/p2p/{alone.peer}")
        assert refused.returncode == 24, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert alone.told("peers") == {"peers": []}
        assert not speaks_mdns(stranger), "a join that failed is none"
        assert not speaks_mdns(alone)
        elsewhere = ("--open", "--no-lan", "--listen", "/ip4/0.0.0.0/tcp/9339", "--model", model)
        open_one = stack.enter_context(running_node(tmp_path / "open", *elsewhere, within=there.command()))
        address = f"/ip4/{there.address}/tcp/9339/p2p/{open_one.peer}"
        friend = start("friend", here, "--no-lan", "--join", alone.address, "--join", address)
        until(lambda: {p["peer"] for p in friend.told("peers")["peers"]} == {alone.peer, open_one.peer})
        until(lambda: any(peer["peer"] == open_one.peer for peer in alone.told("peers")["peers"]))  # by hearsay
        assert [peer["peer"] for peer in alone.told("peers")["peers"] if peer["connected"]] == [friend.peer]


@pytest.mark.root
def test_who_leaves_is_silent_again(tmp_path: Path, link: tuple[Namespace, Namespace]) -> None:
    here, there = link
    with (
        running_node(tmp_path / "one", "--client-only", "--open", *EVERYWHERE, within=here.command()) as one,
        running_node(tmp_path / "two", "--client-only", *EVERYWHERE, within=there.command()) as two,
    ):
        assert two.told("join", f"/ip4/{here.address}/tcp/9338/p2p/{one.peer}") == {"peer": one.peer}
        until(lambda: speaks_mdns(two))
        two.told("leave")
        until(lambda: not speaks_mdns(two))
        assert not [peer for peer in two.told("peers")["peers"] if peer["connected"]]
        assert two.told("join", f"/ip4/{here.address}/tcp/9338/p2p/{one.peer}") == {"peer": one.peer}
        until(lambda: speaks_mdns(two))


@pytest.mark.root
def test_two_machines_of_a_private_network_meet_by_mdns_and_serve_each_other(
    tmp_path: Path, link: tuple[Namespace, Namespace]
) -> None:
    here, there = link
    key = key_file(tmp_path, "ours.key", "a")
    model = str(write_tiny_gguf(tmp_path / "tiny-q8_0.gguf"))
    flags = ("--private-network", key, *EVERYWHERE)
    with (
        running_node(tmp_path / "lender", *flags, "--model", model, within=here.command()) as lender,
        running_node(tmp_path / "guest", *flags, "--client-only", within=there.command()) as guest,
    ):
        until(lambda: speaks_mdns(lender) and speaks_mdns(guest))
        until(lambda: bool(guest.told("models")["models"]), SEEN_S)
        said = guest.meshnode("chat", "tiny", "Say hello.", "--json")
        assert said.returncode == 0, said.stderr
        assert lender.told("credits")["earned"] > 0


# --- the directory ----------------------------------------------------------------------------------


def test_a_provider_whom_nobody_is_connected_to_is_found_by_the_directory(tmp_path: Path) -> None:
    """Three hubs keep what a provider told the directory; it dies, and comes back alone, at the address it had.

    The hubs have seen that it is gone, so they pass on no offer and do not look for it; a guest that joins one of them
    learns from their records alone where to ask.
    """
    flags, model = apart(), str(write_tiny_gguf(tmp_path / "tiny-q8_0.gguf"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}"
    with ExitStack() as stack:

        def start(name: str, *more: str) -> Node:
            return stack.enter_context(running_node(tmp_path / name, *flags, *more))

        def provider(*more: str) -> Node:
            return start("provider", "--model", model, "--listen", where, *more)

        hubs = [start("hub", "--client-only", "--open")]
        hubs += [start(f"hub{n}", "--client-only", "--join", hubs[0].address) for n in (2, 3)]
        lender = provider("--join", hubs[0].address)
        for hub in hubs:
            until(lambda hub=hub: bool(listed(hub)), SEEN_S)  # type: ignore[misc]
        until(lambda: all(lender.peer in trio.run(kept_by, hub, flags[-1], "tiny") for hub in hubs))
        lender.told("leave")
        lender.kill()
        until(lambda: not any(map(listed, hubs)))
        assert {chat(hub, model="tiny").status_code for hub in hubs} <= {404, 503}
        lender = provider("--open")
        assert [listed(hub) for hub in hubs] == [{}, {}, {}]
        guest = start("guest", "--client-only", "--join", hubs[2].address)
        answer = chat(guest, model="tiny")  # at once: it waits for the hub, and then asks the directory
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-mesh-node"] == lender.peer
