"""The application as a whole: paths, errors, headers."""

from __future__ import annotations

import pytest

from meshnode.config import ApiSettings
from meshnode.errors import CapabilityUnavailable
from tests.kit.api import ADMIN_TOKEN, CHAT, MemoryLibrary, Scripted, read_until, running_api


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/models/", 404, "not_found"),
        ("GET", "/V1/models", 404, "not_found"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/..%2f..%2fetc", 404, "model_not_found"),
    ],
)
async def test_what_is_not_there_is_said_in_the_envelope(method: str, path: str, status: int, code: str) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["//v1/models", "///v1/models", "/%2fv1/models", "/%2Fapi/models"])
async def test_more_slashes_at_the_start_lead_past_nobody(path: str) -> None:
    async with running_api(settings=ApiSettings(address="127.0.0.1:0", local_key=True)) as api, api.raw() as stream:
        for token, status in (("wrong", b"401"), (ADMIN_TOKEN, b"404")):
            await stream.send_all(api.head("GET", path, f"Authorization: Bearer {token}"))
            assert (await read_until(stream, b"}}")).split()[1] == status


async def test_405_says_what_is_allowed() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/v1/embeddings")
    assert "POST" in answer.headers["allow"]


async def test_every_answer_is_marked_and_leaks_no_server() -> None:
    async with running_api() as api, api.client() as client:
        for path in ("/", "/health", "/nothing", "/api/models"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "x-request-id" in headers
            assert not {"server", "date", "set-cookie"} & set(headers)


async def test_the_callers_request_id_is_echoed_also_on_errors() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/nothing", headers={"x-request-id": "abc-1:2"})
    assert answer.headers["x-request-id"] == "abc-1:2"


async def test_a_defect_inside_is_500_and_tells_nothing() -> None:
    class Broken(MemoryLibrary):
        def cards(self) -> tuple[()]:
            raise ValueError("SECRET")

    async with running_api(library=Broken()) as api, api.client() as client:
        answer = await client.get("/v1/models")
        assert (await client.get("/health")).status_code == 200
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "SECRET" not in answer.text
    assert answer.headers["x-request-id"] in answer.text


async def test_an_error_of_the_tree_keeps_its_status() -> None:
    refusal = CapabilityUnavailable("tiny takes text, not image.", param="model")
    async with running_api(Scripted([], refusal=refusal)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "model"


async def test_head_is_answered_without_a_body() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.head("/health")
    assert answer.status_code == 200
    assert answer.content == b""
