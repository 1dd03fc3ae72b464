"""``peers``, ``credits``, ``join``, ``leave``, ``serve`` and ``unserve``."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from meshnode.cli.mesh import by_peer
from meshnode.client_records import Channel
from tests.kit.fakemesh import ACCOUNT, ANN, BOB, CONNECTED, HEARD_OF, NOTHING_YET
from tests.kit.fakenode import MODEL, STATUS, FakeNode
from tests.unit.cli.conftest import Shell

ADDRESS = f"/ip4/192.0.2.7/tcp/9338/p2p/{ANN}"
SERVED = {"id": MODEL["id"], "served": True}


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


# --- peers ----------------------------------------------------------------------------------------


def test_peers_are_shown_with_how_they_are_reached_and_how_they_did(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/peers", {"peers": plain([HEARD_OF, CONNECTED])})
    head, ann, bob = shell("peers").out.splitlines()
    assert [name.strip() for name in head.split("   ") if name] == [
        "PEER", "REACHED", "RTT", "OFFERS", "DONE", "SPEED", "FIRST TOKEN", "SCORE", "NOTE",
    ]  # fmt: skip
    for words in (
        f"12D3…{ANN[-6:]} ", "/ip4/192.0.2.7/tcp/9338 (out)", "12 ms", "far-8b:q4_k_m", "12 ok, 1 failed", "40 tok/s",
        "0.25 s", "0.92", "it was full",
    ):  # fmt: skip
        assert words in ann
    for words in (f"12D3…{BOB[-6:]} ", f"no; offer by 12D3…{ANN[-6:]}", "+1", "avoided: it broke the protocol"):
        assert words in bob
    assert ANN not in ann


def test_why_a_peer_is_avoided_is_said_with_what_it_did(shell: Shell, node: FakeNode) -> None:
    peer = {
        "peer": BOB,
        "avoided": "broke the protocol, not asked for 58 s",
        "last_failure": "protocol_violation: lied",
    }
    node.json("GET /api/peers", {"peers": [peer]})
    (_, row) = shell("peers").out.splitlines()
    assert row.endswith("avoided: broke the protocol, not asked for 58 s (protocol_violation: lied)")


def test_peers_as_json_have_whole_ids(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/peers", {"peers": plain([CONNECTED])})
    (peer,) = json.loads(shell("peers", "--json").out)["peers"]
    assert peer == plain(CONNECTED)


def test_a_peer_who_came_to_us_and_of_whom_nothing_is_known_is_shown(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/peers", {"peers": [{"peer": BOB, "connected": True, "address": "/ip4/192.0.2.8/tcp/5"}]})
    (_, row) = shell("peers").out.splitlines()
    assert row.split() == [f"12D3…{BOB[-6:]}", "/ip4/192.0.2.8/tcp/5", "(in)", "1.00"]


def test_what_peers_say_cannot_steer_the_terminal(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/peers", {"peers": [{"peer": BOB, "models": ["a\x1b[31m\nb"], "last_failure": "x\x07\u202ey"}]})
    out = shell("peers").out
    assert len(out.splitlines()) == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_without_peers_it_says_how_to_get_some(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/peers", {"peers": []})
    assert "meshnode join ADDR" in shell("peers").out


# --- credits --------------------------------------------------------------------------------------


def test_credits_are_whole_ones_with_what_is_unconfirmed_said(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/credits", plain(ACCOUNT))
    lines = shell("credits").out.splitlines()
    assert lines[0].split() == ["Earned", "1.5", "credits,", "0.2", "of", "them", "unconfirmed"]
    assert lines[1].split() == ["Spent", "0.000042", "credits"]
    assert lines[2].split() == ["Balance", "1.499958", "credits"]
    assert lines[5].split() == [f"12D3…{ANN[-6:]}", "earned", "1.5", "1.3", "0.2", "12", "100", "2000"]
    assert lines[6].split() == [f"12D3…{ANN[-6:]}", "spent", "0.000042", "0.000042", "1", "100", "2000"]


def test_credits_as_json_are_the_nodes_own(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/credits", plain(ACCOUNT))
    assert json.loads(shell("credits", "--json").out) == plain(ACCOUNT)


def test_no_credits_yet_says_how_they_come(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/credits", plain(NOTHING_YET))
    out = shell("credits").out
    assert "Balance  0 credits" in out
    assert "Nothing yet" in out


def test_channels_with_one_peer_are_summed_by_role() -> None:
    one, two = (
        Channel(role="provider", peer=ANN, chan=chan, total_uc=10, confirmed_uc=chan, requests=1) for chan in (1, 2)
    )
    spent = Channel(role="consumer", peer=ANN, total_uc=99)
    first, second = by_peer([one, spent, two])
    assert (first.role, first.total_uc) == ("consumer", 99)
    assert (second.role, second.total_uc, second.confirmed_uc, second.requests) == ("provider", 20, 3, 2)


# --- join and leave -------------------------------------------------------------------------------


def test_join_says_what_it_means(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/mesh/join", {"peer": ANN})
    node.json("GET /api/mesh/served", {"models": [SERVED]})
    node.json("GET /api/status", STATUS)
    assert shell("join", ADDRESS) == (
        0,
        "Joined. Strangers of this network may now use this node's models (`meshnode unserve MODEL` keeps one back; "
        "`meshnode leave` undoes this).\n",
        "",
    )
    assert node.asked[0].body == {"address": ADDRESS}
    assert json.loads(shell("join", ADDRESS, "--json").out) == {"peer": ANN}


def test_join_of_a_client_promises_nothing_to_strangers(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/mesh/join", {"peer": ANN})
    node.json("GET /api/mesh/served", {"models": []})
    node.json("GET /api/status", STATUS | {"mesh": {"joined": True, "client_only": True}})
    assert "serves nothing" in shell("join", ADDRESS).out


@pytest.mark.parametrize(
    ("status", "code", "message", "exit_code"),
    [
        (400, "invalid_value", "'x' is not an address meshnode can use: … For example /ip4/1.2.3.4/tcp/9338", 22),
        (502, "peer_unreachable", "12D3 did not answer at /ip4/192.0.2.7/tcp/9338.", 24),
    ],
)
def test_a_join_that_fails_is_one_line(
    shell: Shell, node: FakeNode, status: int, code: str, message: str, exit_code: int
) -> None:
    node.error("POST /api/mesh/join", status, code, message)
    assert shell("join", "x") == (exit_code, "", f"meshnode: {message}\n")


@pytest.mark.parametrize(("forgotten", "said"), [(0, "No address was"), (1, "1 address was"), (3, "3 addresses were")])
def test_leave_says_what_was_forgotten(shell: Shell, node: FakeNode, forgotten: int, said: str) -> None:
    node.json("POST /api/mesh/leave", {"forgotten": forgotten})
    assert shell("leave").out.startswith(f"Left. {said} forgotten;")
    assert json.loads(shell("leave", "--json").out) == {"forgotten": forgotten}


# --- serve and unserve ----------------------------------------------------------------------------


def test_what_strangers_may_use_is_listed(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/mesh/served", {"models": [SERVED, {"id": "b:q8_0", "served": False}]})
    lines = [line.split() for line in shell("serve").out.splitlines()]
    assert lines == [["MODEL", "STRANGERS"], [MODEL["id"], "may", "use", "it"], ["b:q8_0", "no"]]
    assert json.loads(shell("serve", "--json").out)["models"][0] == SERVED
    node.json("GET /api/mesh/served", {"models": []})
    assert "meshnode pull default" in shell("serve").out


def test_a_model_is_lent_and_kept_back(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/mesh/serve", SERVED)
    assert "may use smollm2-135m-instruct:q4_1" in shell("serve", "smollm2").out
    assert node.asked[-1].body == {"model": "smollm2", "on": True}
    node.json("POST /api/mesh/serve", SERVED | {"served": False})
    assert "is kept back" in shell("unserve", "smollm2").out
    assert node.asked[-1].body == {"model": "smollm2", "on": False}
    assert json.loads(shell("unserve", "smollm2", "--json").out) == SERVED | {"served": False}


def test_a_node_that_serves_nothing_does_not_say_it_does(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/mesh/serve", SERVED | {"served": False})
    assert "--client-only" in shell("serve", "smollm2").out


def test_an_unknown_model_is_said(shell: Shell, node: FakeNode) -> None:
    node.error("POST /api/mesh/serve", 404, "model_not_found", "no model 'x'.")
    assert shell("serve", "x") == (22, "", "meshnode: no model 'x'.\n")
