"""Files and batches over a real socket: the whole way, what is refused, who sees what, and OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
import trio
import trio.lowlevel
from openai import OpenAI
from openai.types import Batch

from meshnode.api.batches import routes
from meshnode.config import ApiSettings
from meshnode.gateway.keys import KeyRing, hash_of, new_key, parse_keys
from tests.kit.api import Scripted, endless, read_until, running_api, spoken
from tests.kit.batches import a_line, batch_api, begun, in_status, jsonl, kept, rows, serving, uploaded

OVER = ("completed", "failed", "expired", "cancelled")
BATCH = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def by_name(found: Sequence[dict[str, Any]]) -> dict[str | None, dict[str, Any]]:
    named = {row["custom_id"]: row for row in found}
    assert len(named) == len(found), "each custom_id once"
    return named


async def test_each_line_is_answered_once_and_the_bad_ones_fail_alone() -> None:
    content = jsonl(
        a_line("a"),
        b"this is no JSON",
        a_line("b", temperature=99),
        {**a_line("c"), "url": "/v1/embeddings"},
        a_line("d", stream=True),
        {"custom_id": "e", "method": "GET", "url": "/v1/chat/completions", "body": {}},
        {**a_line("f"), "more": 1},
        b"",
        a_line("g"),
    )
    async with batch_api(Scripted(spoken("Hello", " world"))) as api, api.client() as client:
        batch = await in_status(client, (await begun(client, content, metadata={"of": "mine"}))["id"], *OVER)
        right = by_name(await rows(client, batch["output_file_id"]))
        wrong = by_name(await rows(client, batch["error_file_id"]))
        assert len(api.scripted.requests) == 2
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 8, "completed": 2, "failed": 6}
    assert batch["metadata"] == {"of": "mine"}
    assert batch["usage"]["output_tokens"] == 4
    assert right.keys() == {"a", "g"}
    assert right["a"]["response"]["status_code"] == 200
    assert right["a"]["response"]["body"]["choices"][0]["message"]["content"] == "Hello world"
    assert right["a"]["response"]["body"]["id"] != right["g"]["response"]["body"]["id"]
    assert {name: row["response"]["body"]["error"]["param"] for name, row in wrong.items() if name} == {
        "b": "temperature",
        "c": "url",
        "d": "stream",
        "e": "method",
        "f": "more",
    }
    assert wrong[None]["response"] is None
    assert wrong[None]["error"]["code"] == "invalid_json"
    assert "Line 2" in wrong[None]["error"]["message"]


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (jsonl(a_line("a"), a_line("b"), a_line("a")), "duplicate_custom_id", 3),
        (b"\n\n  \n", "empty_file", None),
        (b"\xff\xfe not JSONL", "invalid_json", 1),
        (json.dumps([a_line("a")]).encode(), "invalid_json", 1),
        (jsonl({**a_line("a"), "url": "/v1/completions"}), "invalid_value", 1),
    ],
)
async def test_a_file_that_cannot_be_run_fails_the_batch_and_names_the_line(
    content: bytes, code: str, line: int | None
) -> None:
    async with batch_api() as api, api.client() as client:
        batch = await in_status(client, (await begun(client, content))["id"], *OVER)
        assert api.scripted.requests == []
        files = (await client.get("/v1/files")).json()["data"]
    assert batch["status"] == "failed"
    assert batch["output_file_id"] is None
    assert batch["error_file_id"] is None
    assert [file["id"] for file in files] == [batch["input_file_id"]]
    (fault,) = batch["errors"]["data"]
    assert (fault["code"], fault["line"]) == (code, line)


TURNS = [{"role": "user", "content": "hi"}]
ASKED: dict[str, tuple[dict[str, object], str]] = {
    "chat/completions": ({"messages": TURNS}, "chat.completion"),
    "completions": ({"prompt": "x"}, "text_completion"),
    "embeddings": ({"input": "x"}, "list"),
    "responses": ({"input": "x"}, "response"),
    "responses/input_tokens": ({"input": "x"}, "response.input_tokens"),
    "messages": ({"model": "tiny", "max_tokens": 9, "messages": TURNS}, "message"),
    "messages/count_tokens": ({"model": "tiny", "messages": TURNS}, ""),
}


@pytest.mark.parametrize("path", ASKED)
async def test_every_dialect_can_be_asked_and_answers_in_its_own_shape(path: str) -> None:
    body, kind = ASKED[path]
    url = f"/v1/{path}"
    right, wrong = ({"custom_id": name, "method": "POST", "url": url, "body": body} for name in ("a", "b"))
    wrong["body"] = {**body, "nonsense": 1}
    async with batch_api(Scripted(spoken("yes"))) as api, api.client() as client:
        batch = await in_status(client, (await begun(client, jsonl(right, wrong), endpoint=url))["id"], *OVER)
        (row,) = await rows(client, batch["output_file_id"])
        (error,) = await rows(client, batch["error_file_id"])
    answer, refusal = row["response"]["body"], error["response"]["body"]
    assert answer.get("object", answer.get("type", "")) == kind
    assert (refusal.get("type") == "error") is path.startswith("messages")
    assert "nonsense" in refusal["error"]["message"]


async def test_a_line_is_behind_everybody_else_and_within_the_batchs_time() -> None:
    async with batch_api() as api, api.client() as client:
        await in_status(client, (await begun(client, jsonl(a_line("a"))))["id"], *OVER)
        (request,) = api.scripted.requests
    assert request.service_class.name == "LEFTOVER"
    assert request.deadline_s is not None
    assert 86_000 < request.deadline_s <= 86_400


async def test_a_batch_that_is_cancelled_stops_at_once_and_keeps_what_was_answered() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    async with batch_api(dispatcher) as api, api.client() as client:
        id_ = (await begun(client, jsonl(*(a_line(f"{n}") for n in range(20)))))["id"]
        await dispatcher.entered.wait()
        answer = await client.post(f"/v1/batches/{id_}/cancel")
        assert answer.json()["status"] in ("cancelling", "cancelled")
        batch = await in_status(client, id_, *OVER)
        assert dispatcher.inside == 0
        again = await client.post(f"/v1/batches/{id_}/cancel")
        assert again.json()["status"] == "cancelled"
    assert batch["status"] == "cancelled"
    assert batch["cancelled_at"] >= batch["cancelling_at"]
    assert batch["output_file_id"] is None


async def test_one_that_is_over_cannot_be_cancelled() -> None:
    async with batch_api() as api, api.client() as client:
        batch = await in_status(client, (await begun(client, jsonl(a_line("a"))))["id"], *OVER)
        answer = await client.post(f"/v1/batches/{batch['id']}/cancel")
    assert answer.status_code == 409


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": "file-none"}, 404, "input_file_id"),
        ({"input_file_id": 7}, 400, "input_file_id"),
        ({"endpoint": "/v1/moderations"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after.seconds"),
        ({"priority": 1}, 400, "priority"),
    ],
)
async def test_what_a_batch_cannot_be_is_named(change: dict[str, object], status: int, param: str) -> None:
    async with batch_api() as api, api.client() as client:
        answer = await client.post("/v1/batches", json={**BATCH, **change})
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({}, {"file": ("x", b"x")}, "purpose"),
        ({"purpose": "fine-tune"}, {"file": ("x", b"x")}, "purpose"),
        ({"purpose": "anything"}, {"file": ("x", b"x")}, "purpose"),
        ({"purpose": "batch"}, {"file": ("x", b"")}, "file"),
        ({"purpose": "batch"}, {"other": ("x", b"x")}, "other"),
        ({"purpose": "batch" * 100}, {"file": ("x", b"x")}, "purpose"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, {"file": ("x", b"x")}, "expires_after.anchor"),
    ],
)
async def test_an_upload_that_is_wrong_is_named_and_leaves_nothing(
    data: dict[str, str], files: dict[str, tuple[str, bytes]], param: str
) -> None:
    async with batch_api() as api, api.client() as client:
        answer = await client.post("/v1/files", data=data, files=files)
        left = (await client.get("/v1/files")).json()["data"]
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert left == []


async def test_an_upload_is_bounded_by_the_largest_body_whether_or_not_its_length_is_told() -> None:
    settings = ApiSettings(address="127.0.0.1:0", max_body=2048)
    kind = "Content-Type: multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 2048
    async with batch_api(settings=settings) as api:
        for length, body in [
            ("Content-Length: 4096", b""),
            ("Transfer-Encoding: chunked", b"%x\r\n" % len(part) + part),
        ]:
            async with api.raw() as raw:
                await raw.send_all(api.head("POST", "/v1/files", kind, length) + body)
                assert b" 413 " in await read_until(raw, b"\r\n")


async def test_an_upload_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "UPLOAD_TIMEOUT_S", 0.05)
    kind = "Content-Type: multipart/form-data; boundary=x"
    async with kept() as there, serving(there) as api, api.raw() as raw:
        await raw.send_all(api.head("POST", "/v1/files", kind, "Content-Length: 99") + b"--x")
        assert b" 400 " in await read_until(raw, b"\r\n")
        assert await there.vault.counts() == {}


async def test_garbage_and_json_are_no_upload() -> None:
    async with batch_api() as api, api.client() as client:
        header = {"content-type": "multipart/form-data; boundary=x"}
        garbage = await client.post("/v1/files", content=b"\x00garbage", headers=header)
        plain = await client.post("/v1/files", json={"purpose": "batch"})
        elsewhere = await client.post("/v1/batches", files={"file": ("x", b"x")})
    assert [garbage.status_code, plain.status_code, elsewhere.status_code] == [400, 415, 415]


async def test_a_client_that_leaves_in_the_middle_leaves_nothing() -> None:
    async with kept() as there, serving(there) as api, api.client() as client:
        async with api.raw() as raw:
            kind = "Content-Type: multipart/form-data; boundary=x"
            await raw.send_all(api.head("POST", "/v1/files", kind, "Content-Length: 5000"))
            part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 1000
            await raw.send_all(part)
            while not await there.vault.counts():
                await trio.lowlevel.checkpoint()
        while await there.vault.counts():
            await trio.lowlevel.checkpoint()
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_a_node_that_keeps_nothing_says_so() -> None:
    async with running_api() as api, api.client() as client:
        answers = [
            await client.get("/v1/files"),
            await client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("x", b"x")}),
            await client.post("/v1/batches", json=BATCH),
        ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]


# --- lists and owners -----------------------------------------------------------------------------


async def test_files_are_listed_in_pages_and_deleted() -> None:
    async with batch_api() as api, api.client() as client:
        ids = [await uploaded(client, b"x%d" % number) for number in range(3)]
        first = (await client.get("/v1/files", params={"limit": "2", "order": "asc"})).json()
        rest = (await client.get("/v1/files", params={"after": ids[1], "order": "asc"})).json()
        newest = (await client.get("/v1/files", params={"purpose": "batch"})).json()
        other = (await client.get("/v1/files", params={"purpose": "batch_output"})).json()
        gone = (await client.delete(f"/v1/files/{ids[0]}")).json()
        missing = [
            await client.get(f"/v1/files/{ids[0]}"),
            await client.get(f"/v1/files/{ids[0]}/content"),
            await client.delete(f"/v1/files/{ids[0]}"),
            await client.get("/v1/files", params={"after": ids[0]}),
        ]
        odd = [await client.get("/v1/files", params=one) for one in ({"limit": "0"}, {"limit": "x"}, {"page": "1"})]
    assert [file["id"] for file in first["data"]] == ids[:2]
    assert first["has_more"]
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    assert [file["id"] for file in rest["data"]] == ids[2:]
    assert [file["id"] for file in newest["data"]] == ids[::-1]
    assert other["data"] == []
    assert gone == {"id": ids[0], "object": "file", "deleted": True}
    assert [answer.status_code for answer in missing] == [404] * 4
    assert [answer.status_code for answer in odd] == [400] * 3


async def test_another_principals_files_and_batches_are_not_there() -> None:
    keys = [new_key(bytes([number]) * 32) for number in (1, 2)]
    ring: KeyRing = parse_keys("\n".join(map(hash_of, keys)))
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with batch_api(settings=settings, keys=ring) as api:
        mine, others = (
            httpx2.AsyncClient(
                base_url=api.url, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {key}"}
            )
            for key in keys
        )
        async with mine, others:
            batch = await in_status(mine, (await begun(mine, jsonl(a_line("a"))))["id"], *OVER)
            file, output = batch["input_file_id"], batch["output_file_id"]
            refused = [
                await others.get(f"/v1/files/{file}"),
                await others.get(f"/v1/files/{output}/content"),
                await others.delete(f"/v1/files/{file}"),
                await others.get(f"/v1/batches/{batch['id']}"),
                await others.post(f"/v1/batches/{batch['id']}/cancel"),
                await others.get("/v1/batches", params={"after": batch["id"]}),
                await others.post("/v1/batches", json={**BATCH, "input_file_id": file}),
            ]
            lists = [(await others.get(path)).json()["data"] for path in ("/v1/files", "/v1/batches")]
            still = await mine.get(f"/v1/files/{output}/content")
            (request,) = api.scripted.requests
    assert [answer.status_code for answer in refused] == [404] * len(refused)
    assert lists == [[], []]
    assert still.status_code == 200
    assert request.caller.startswith("key:")


# --- OpenAI's own client --------------------------------------------------------------------------


def of_openai(url: str) -> OpenAI:
    """OpenAI's client, which checks every answer against its own types."""
    return OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=30, _strict_response_validation=True)


def waited(sdk: OpenAI, batch: Batch) -> Batch:
    while batch.status not in OVER:
        batch = sdk.batches.retrieve(batch.id)
    return batch


async def test_the_official_client_hands_in_a_file_and_has_it_again() -> None:
    content = jsonl(a_line("a"))

    def use(url: str) -> None:
        with of_openai(url) as sdk:
            file = sdk.files.create(
                file=("in.jsonl", content),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": 3600},
            )
            assert (file.bytes, file.filename, file.purpose) == (len(content), "in.jsonl", "batch")
            assert file.expires_at == file.created_at + 3600
            assert sdk.files.retrieve(file.id) == file
            assert list(sdk.files.list(limit=1)) == [file]
            assert sdk.files.content(file.id).read() == content
            assert sdk.files.delete(file.id).deleted
            assert list(sdk.files.list()) == []

    async with batch_api() as api:
        await trio.to_thread.run_sync(use, api.url)


async def test_the_official_client_runs_batches() -> None:
    def use(url: str) -> list[str]:
        with of_openai(url) as sdk:
            files = [
                sdk.files.create(file=("in.jsonl", content), purpose="batch")
                for content in (jsonl(a_line("a"), a_line("b", temperature=9)), b"not JSONL")
            ]
            good, bad = (
                waited(
                    sdk,
                    sdk.batches.create(
                        input_file_id=file.id,
                        endpoint="/v1/chat/completions",
                        completion_window="24h",
                        metadata={"of": "mine"},
                    ),
                )
                for file in files
            )
            assert good.request_counts is not None
            assert (good.request_counts.completed, good.request_counts.failed) == (1, 1)
            assert bad.errors is not None
            assert bad.errors.data is not None
            assert bad.errors.data[0].line == 1
            assert [one.id for one in sdk.batches.list(limit=1)] == [bad.id, good.id]
            return [sdk.files.content(id_).text for id_ in (good.output_file_id, good.error_file_id) if id_]

    async with batch_api() as api:
        right, wrong = await trio.to_thread.run_sync(use, api.url)
    assert json.loads(right)["custom_id"] == "a"
    assert json.loads(wrong)["custom_id"] == "b"


async def test_the_official_client_cancels() -> None:
    def use(url: str) -> None:
        with of_openai(url) as sdk:
            file = sdk.files.create(file=("in.jsonl", jsonl(a_line("a"))), purpose="batch")
            batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            assert waited(sdk, sdk.batches.cancel(batch.id)).status == "cancelled"

    async with batch_api(Scripted([trio.sleep_forever])) as api:
        await trio.to_thread.run_sync(use, api.url)
