"""``/v1/jobs``: lists, deletion, and that nobody sees another's."""

from __future__ import annotations

import os

import msgspec
import pytest

from meshnode.config import ApiSettings
from meshnode.domain import OWNER
from meshnode.gateway.job import Job, JobStatus
from meshnode.gateway.keys import hash_of, parse_keys
from tests.kit.api import CHAT, Scripted, running_api, spoken
from tests.kit.jobs import a_job

ALICE, BOB = "mesh_live_alice", "mesh_live_bob"
RING = parse_keys(f"{hash_of(ALICE)} alice\n{hash_of(BOB)} bob")


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def over(id_: str, *, background: bool = True) -> Job:
    return msgspec.structs.replace(a_job(id_), status=JobStatus.CANCELLED, background=background)


async def test_jobs_are_listed_in_pages_without_answers_that_were_waited_for() -> None:
    async with running_api() as api, api.client() as client:
        for number in range(5):
            await api.context.jobs.keep(over(f"job_{number}"))
            await api.context.jobs.keep(over(f"chat_{number}", background=False))
        first = (await client.get("/v1/jobs?limit=3")).json()
        rest = (await client.get(f"/v1/jobs?limit=3&after={first['last_id']}")).json()
        oldest = (await client.get("/v1/jobs?order=asc&limit=1")).json()
    assert [job["id"] for job in first["data"] + rest["data"]] == [f"job_{number}" for number in (4, 3, 2, 1, 0)]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert oldest["data"][0]["id"] == "job_0"
    assert all("result" not in job for job in first["data"])


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "limit=٣", "order=up"])
async def test_an_odd_query_is_refused_by_name(query: str) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_a_list_after_nothing_known_is_not_found() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/v1/jobs?after=job_x")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "after")


async def test_a_deleted_job_is_gone() -> None:
    async with running_api() as api, api.client() as client:
        await api.context.jobs.keep(over("job_1"))
        answer = await client.delete("/v1/jobs/job_1")
        assert answer.json() == {"id": "job_1", "object": "job.deleted", "deleted": True}
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            assert (await client.request(method, f"/v1/jobs/job_1{path}")).status_code == 404


async def test_a_job_of_a_dialect_that_is_no_more_is_told_without_its_answer() -> None:
    async with running_api() as api, api.client() as client:
        odd = msgspec.structs.replace(over("job_1"), dialect="latin", status=JobStatus.COMPLETED)
        await api.context.jobs.keep(odd)
        told = (await client.get("/v1/jobs/job_1")).json()
    assert (told["dialect"], told["result"], told["error"]) == ("latin", None, None)


async def test_nobody_sees_or_touches_anothers_job() -> None:
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    dispatcher = Scripted(spoken("Hello"))
    async with running_api(dispatcher, settings=settings, keys=RING, entropy=os.urandom) as api, api.client() as client:
        ask = {**CHAT, "store": True}
        mine = (await client.post("/v1/chat/completions", json=ask, headers=with_key(ALICE))).json()["id"]
        said = []
        for id_ in (mine, "chatcmpl-none"):
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
                answer = await client.request(method, f"/v1/jobs/{id_}{path}", headers=with_key(BOB))
                said.append((answer.status_code, answer.text.replace(id_, "?")))
        assert said[:3] == said[3:], "what is another's is told as what is not there"
        assert {status for status, _ in said} == {404}
        assert (await client.get("/v1/jobs", headers=with_key(BOB))).json()["data"] == []
        assert (await client.get(f"/v1/jobs/{mine}", headers=with_key(ALICE))).status_code == 200
        assert (await client.get(f"/v1/jobs/{mine}")).status_code == 401
        assert (await api.context.jobs.jobs(OWNER)).jobs == ()
