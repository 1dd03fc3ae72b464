"""What is the owner's asks for the owner."""

from __future__ import annotations

import pytest

from meshnode.api.openapi.endpoint import Access, Endpoint
from meshnode.api.openapi.owner import OWNER
from tests.kit.api import running_api


@pytest.mark.parametrize("endpoint", OWNER, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_nobody_else_is_let_in(endpoint: Endpoint) -> None:
    assert endpoint.access is Access.OWNER
    path = endpoint.path.replace("{", "").replace("}", "")
    async with running_api() as api, api.client() as client:
        answer = await client.request(endpoint.method, path, json=None if endpoint.method == "GET" else {})
    assert answer.status_code == 401
