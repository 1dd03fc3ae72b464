"""Peers, credits, joining and serving: by token, and through the package's own client over the control socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from meshnode.client import Client, open_client
from meshnode.errors import InvalidField, ModelNotFound, Unreachable
from tests.kit.api import ADMIN_TOKEN, CARD, running_api
from tests.kit.fakemesh import ACCOUNT, ANN, BOB, CONNECTED, HEARD_OF, RECEIPT, FakeMesh

T = TypeVar("T")
TOKEN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
ADDRESS = f"/ip4/192.0.2.7/tcp/9338/p2p/{ANN}"


async def as_owner(home: Path, call: Callable[[Client], T]) -> T:
    """``call`` with the client that the command line uses, in a thread."""

    def run() -> T:
        with open_client(home) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


async def test_peers_come_through_as_they_are_known(tmp_path: Path) -> None:
    mesh = FakeMesh(met=(CONNECTED, HEARD_OF))
    async with running_api(control_socket=tmp_path / "control.sock", mesh=mesh) as api, api.client() as client:
        shown = (await client.get("/api/peers", headers=TOKEN)).json()["peers"]
        ann, bob = await as_owner(tmp_path, Client.peers)
    assert shown[0]["peer"] == ANN
    assert shown[1]["rtt_s"] is None, "what is not known is said to be so"
    assert (ann.address, ann.outbound, ann.rtt_s, ann.successes) == (CONNECTED.address, True, 0.0124, 12)
    assert (bob.peer, bob.connected, bob.source, bob.avoided) == (BOB, False, ANN, "it broke the protocol")


async def test_credits_are_micro_credits_with_every_channel(tmp_path: Path) -> None:
    mesh = FakeMesh(account=ACCOUNT)
    async with running_api(control_socket=tmp_path / "control.sock", mesh=mesh) as api, api.client() as client:
        shown = (await client.get("/api/credits", headers=TOKEN)).json()
        told = await as_owner(tmp_path, Client.credits)
    assert shown.keys() == {"earned", "spent", "balance", "earned_unconfirmed", "spent_unconfirmed", "channels"}
    assert (shown["earned"], shown["balance"], shown["channels"][0]["confirmed_uc"]) == (
        1_500_000,
        1_499_958,
        1_300_000,
    )
    assert (told.earned_unconfirmed, told.channels[1].role, told.channels[1].total_uc) == (200_000, "consumer", 42)


async def test_joining_says_whom_and_leaving_how_many(tmp_path: Path) -> None:
    async with running_api(control_socket=tmp_path / "control.sock"):
        assert await as_owner(tmp_path, lambda node: node.join(f" {ADDRESS}\n")) == ANN
        assert (await as_owner(tmp_path, Client.status)).mesh.joined
        assert await as_owner(tmp_path, Client.leave) == 1
        assert not (await as_owner(tmp_path, Client.status)).mesh.joined


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.7:9338", "/ip4/"),
        ("/ip4/192.0.2.7/tcp/9338", "must end in /p2p/"),
        (f"/ip4/0.0.0.0/tcp/9338/p2p/{ANN}", "nobody can be dialled"),
        ("", "/ip4/"),
        ("\x1b[31m\u202e/ip4", "/ip4/"),
    ],
)
async def test_what_is_no_address_of_a_peer_is_the_callers_error_with_an_example(
    address: str, said: str, tmp_path: Path
) -> None:
    mesh = FakeMesh()
    async with running_api(control_socket=tmp_path / "control.sock", mesh=mesh) as api, api.client() as client:
        answer = await client.post("/api/mesh/join", json={"address": address}, headers=TOKEN)
        with pytest.raises(InvalidField, match="For example /ip4/"):
            await as_owner(tmp_path, lambda node: node.join(address))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "address")
    assert said in error["message"]
    assert mesh.addresses == []


async def test_a_peer_that_does_not_answer_is_said(tmp_path: Path) -> None:
    mesh = FakeMesh(down=frozenset({ADDRESS}))
    async with running_api(control_socket=tmp_path / "control.sock", mesh=mesh) as api, api.client() as client:
        answer = await client.post("/api/mesh/join", json={"address": ADDRESS}, headers=TOKEN)
        with pytest.raises(Unreachable, match="did not answer"):
            await as_owner(tmp_path, lambda node: node.join(ADDRESS))
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "peer_unreachable")


async def test_models_are_lent_and_kept_back(tmp_path: Path) -> None:
    mesh = FakeMesh(serving={CARD.id: True})
    async with running_api(control_socket=tmp_path / "control.sock", mesh=mesh):
        assert [(each.id, each.served) for each in await as_owner(tmp_path, Client.served)] == [(CARD.id, True)]
        assert not (await as_owner(tmp_path, lambda node: node.serve(CARD.id, False))).served
        assert [each.served for each in await as_owner(tmp_path, Client.served)] == [False]
        assert (await as_owner(tmp_path, lambda node: node.serve(CARD.id, True))).served
        with pytest.raises(ModelNotFound):
            await as_owner(tmp_path, lambda node: node.serve("nobody", True))


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/mesh/join", {}, "invalid_value"),
        ("/api/mesh/join", {"address": 3}, "invalid_value"),
        ("/api/mesh/join", {"adress": "x"}, "unknown_parameter"),
        ("/api/mesh/join", {"address": "x" * 5000}, "invalid_value"),
        ("/api/mesh/serve", {"model": "tiny"}, "invalid_value"),
        ("/api/mesh/serve", {"model": "tiny", "on": "yes"}, "invalid_value"),
        ("/api/mesh/serve", {"on": True}, "invalid_value"),
    ],
)
async def test_bad_requests_are_named(path: str, body: object, code: str) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.post(path, json=body, headers=TOKEN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/peers"),
        ("GET", "/api/credits"),
        ("POST", "/api/mesh/join"),
        ("POST", "/api/mesh/leave"),
        ("GET", "/api/mesh/served"),
        ("POST", "/api/mesh/serve"),
    ],
)
async def test_nothing_of_it_without_the_token(method: str, path: str) -> None:
    mesh = FakeMesh(addresses=[ADDRESS])
    async with running_api(mesh=mesh) as api, api.client() as client:
        assert (await client.request(method, path)).status_code == 401
    assert mesh.addresses == [ADDRESS]


async def test_a_receipt_is_found_by_its_id_and_only_by_the_owner() -> None:
    async with running_api(mesh=FakeMesh(receipts=(RECEIPT,))) as api, api.client() as client:
        shown = (await client.get("/api/receipts/rcpt_01", headers=TOKEN)).json()
        unknown = await client.get("/api/receipts/rcpt_02", headers=TOKEN)
        assert (await client.get("/api/receipts/rcpt_01")).status_code == 401
    assert (shown["id"], shown["cost_uc"], shown["state"], shown["peer"]) == ("rcpt_01", 12_660, "confirmed", ANN)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
