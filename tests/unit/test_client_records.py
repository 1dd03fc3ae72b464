"""What a node tells, as records: what is missing has a default, and the mesh's own records fit in."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.client_records import Channel, Credits, Model, Peer, Served, Status
from meshnode.domain import Record
from meshnode.mesh.view import ChannelView, CreditsView, PeerView, ServedView
from tests.kit.fakemesh import ACCOUNT, CONNECTED, HEARD_OF
from tests.kit.fakenode import MODEL, STATUS


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Peer, PeerView), (Channel, ChannelView), (Credits, CreditsView), (Served, ServedView)]
)
def test_nothing_that_the_mesh_shows_is_left_out(ours: type[Record], theirs: type[Record]) -> None:
    assert ours.__struct_fields__ == theirs.__struct_fields__


@pytest.mark.parametrize("view", [CONNECTED, HEARD_OF])
def test_a_peer_comes_through_json_unchanged(view: PeerView) -> None:
    read = msgspec.json.decode(msgspec.json.encode(view), type=Peer)
    assert msgspec.to_builtins(read) == msgspec.to_builtins(view)


def test_an_account_comes_through_json_unchanged() -> None:
    read = msgspec.json.decode(msgspec.json.encode(ACCOUNT), type=Credits)
    assert msgspec.to_builtins(read) == msgspec.to_builtins(ACCOUNT)


def test_a_node_that_says_nothing_of_a_mesh_is_alone() -> None:
    assert not msgspec.convert(STATUS, Status).mesh.joined
    model = msgspec.convert(MODEL, Model)
    assert (model.owned_by, model.providers) == ("local", 0)
