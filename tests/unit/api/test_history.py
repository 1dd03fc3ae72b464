"""``/api/history``, for the owner alone."""

from __future__ import annotations

import pytest

from meshnode.domain import CallerId
from tests.kit.api import ADMIN_TOKEN, running_api
from tests.kit.jobs import a_job

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def test_the_owner_sees_how_much_is_kept_and_forgets_it() -> None:
    async with running_api() as api, api.client() as client:
        await api.context.jobs.keep(a_job("job_1"))
        await api.context.jobs.keep(a_job("job_2", principal=CallerId("key:guest")))
        told = {"enabled": True, "kept": {"job": 2}}
        assert (await client.get("/api/history", headers=ADMIN)).json() == told
        assert (await client.delete("/api/history", headers=ADMIN)).json() == told
        assert (await client.get("/api/history", headers=ADMIN)).json() == {"enabled": True, "kept": {}}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_nobody_else_does(method: str) -> None:
    async with running_api() as api, api.client() as client:
        await api.context.jobs.keep(a_job())
        assert (await client.request(method, "/api/history")).status_code == 401
        assert await api.context.history.counts() == {"job": 1}
