"""What the tests of the models room share: a tiny model, a folder as home, a hub on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meshnode.models.store import Store, open_store
from tests.kit.hub import Hub, open_hub
from tests.kit.tinygguf import tiny_gguf


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """The bytes of a small sound model."""
    return tiny_gguf().encode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open store in a folder of its own."""
    with open_store(tmp_path / "models") as opened:
        yield opened


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub on a loopback port."""
    async with open_hub() as opened:
        yield opened
