"""What the mesh shows: whole records, and a fake that is one of it."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.domain import Record
from meshnode.mesh.view import ChannelView, CreditsView, MeshModel, MeshView, PeerView, ProviderView, ServedView
from tests.kit.fakemesh import ACCOUNT, ANN, CHANNEL, CONNECTED, FAR, HEARD_OF, PROVIDER, FakeMesh

RECORDS = [PROVIDER, FAR, CONNECTED, HEARD_OF, CHANNEL, ACCOUNT, ServedView(id=FAR.id, served=False)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_through_json_whole(record: Record) -> None:
    told = msgspec.json.encode(record)
    assert msgspec.json.decode(told).keys() == set(record.__struct_fields__), "nothing is left out for being empty"
    assert msgspec.json.decode(told, type=type(record)) == record


@pytest.mark.parametrize("kind", [ProviderView, MeshModel, PeerView, ChannelView, CreditsView, ServedView])
def test_nothing_of_a_record_is_guessed(kind: type[Record]) -> None:
    assert all(field.required for field in msgspec.structs.fields(kind))


async def test_the_fake_joins_serves_and_leaves_as_the_protocol_says() -> None:
    mesh: MeshView = FakeMesh(serving={"a": True})
    address = f"/ip4/192.0.2.7/tcp/9338/p2p/{ANN}"
    seen = [mesh.joined]
    assert await mesh.join(address) == ANN
    seen.append(mesh.joined)
    assert not (await mesh.serve("a", False)).served
    assert [each.served for each in mesh.served()] == [False]
    assert await mesh.leave() == 1
    assert [*seen, mesh.joined] == [False, True, False]
