"""How an object is sealed; what the vault does is in the contract suite."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import OWNER
from meshnode.storage.database import Connection, Database, open_inline
from meshnode.storage.vault import NONCE_BYTES, Item, Vault

KEY = bytes(range(32))


def _blobs(connection: Connection) -> list[bytes]:
    return [blob for (blob,) in connection.execute("SELECT blob FROM sealed ORDER BY seq")]


def a_vault(database: Database) -> Vault:
    counter = iter(range(1 << 30))
    return Vault(database, KEY, entropy=lambda size: next(counter).to_bytes(size, "big"), now=lambda: 7.0)


async def test_each_writing_takes_a_fresh_nonce() -> None:
    async with open_inline() as database:
        vault = a_vault(database)
        for id_ in ("a", "b", "a"):
            await vault.put(Item(principal=OWNER, kind="job", id=id_, data=b"same"))
        again, other = await database.read(_blobs)
    assert again[1 : 1 + NONCE_BYTES] != other[1 : 1 + NONCE_BYTES]
    assert again[1 + NONCE_BYTES :] != other[1 + NONCE_BYTES :]


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
async def test_any_bytes_under_any_name_come_back(data: bytes, kind: str, id_: str) -> None:
    async with open_inline() as database:
        vault = a_vault(database)
        await vault.put(Item(principal=OWNER, kind=kind, id=id_, data=data))
        assert (await vault.get(OWNER, kind, id_)).data == data
