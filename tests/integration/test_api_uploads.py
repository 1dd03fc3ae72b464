"""What no client should hand in as a file: refused by name, and nothing of it is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import pytest
import trio

from meshnode.config import ApiSettings
from tests.kit.api import Api, Scripted, read_all, read_until, spoken
from tests.kit.batches import batch_api, kept, serving, uploaded

MOST: Final = 1 << 20
FORM: Final = "multipart/form-data; boundary=b"


def part(disposition: str, content: bytes = b"x") -> bytes:
    """One part of a form whose boundary is ``b``."""
    return b"--b\r\nContent-Disposition: form-data" + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


PURPOSE: Final = part('; name="purpose"', b"batch")
FILE: Final = part('; name="file"; filename="in.jsonl"', b"{}\n")
END: Final = b"--b--\r\n"
BAD: Final[dict[str, tuple[str, bytes, int]]] = {
    "nothing": (FORM, b"", 400),
    "an end alone": (FORM, END, 400),
    "no end": (FORM, PURPOSE + FILE, 400),
    "half a file": (FORM, PURPOSE + FILE[:-6], 400),
    "no file": (FORM, PURPOSE + END, 400),
    "no purpose": (FORM, FILE + END, 400),
    "an empty file": (FORM, PURPOSE + part('; name="file"; filename="x"', b"") + END, 400),
    "no file name": (FORM, PURPOSE + part('; name="file"') + END, 400),
    "no name": (FORM, PURPOSE + part('; filename="x"') + END, 400),
    "no disposition": (FORM, PURPOSE + b"--b\r\n\r\nx\r\n" + END, 400),
    "two files": (FORM, PURPOSE + FILE + FILE + END, 400),
    "two purposes": (FORM, PURPOSE + PURPOSE + FILE + END, 400),
    "another field": (FORM, PURPOSE + part('; name="\0\x1b[2J"') + FILE + END, 400),
    "a purpose of a megabyte": (FORM, part('; name="purpose"', b"p" * 900_000) + END, 400),
    "ten thousand parts": (FORM, PURPOSE * 10_000 + END, 400),
    "headers of a part without end": (FORM, b"--b\r\n" + b"X: y\r\n" * 35_000, 400),
    "a header of half a megabyte": (FORM, b"--b\r\nX: " + b"y" * 210_000, 400),
    "too much": (FORM, PURPOSE + part('; name="file"; filename="x"', b"x" * MOST) + END, 413),
    "no boundary": ("multipart/form-data", PURPOSE + FILE + END, 400),
    "an empty boundary": ('multipart/form-data; boundary=""', PURPOSE + FILE + END, 400),
    "a boundary of thousands": ("multipart/form-data; boundary=" + "b" * 9000, PURPOSE + FILE + END, 400),
    "a boundary that is none of ASCII": ("multipart/form-data; boundary=\xe9", PURPOSE + FILE + END, 400),
    "mixed": ("multipart/mixed; boundary=b", PURPOSE + FILE + END, 415),
    "JSON": ("application/json", b"{}", 415),
    "a form": ("application/x-www-form-urlencoded", b"purpose=batch", 415),
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_upload_is_refused_and_leaves_nothing(kind: str) -> None:
    content_type, body, status = BAD[kind]
    async with uploads() as api, api.client() as client:
        answer = await client.post(
            "/v1/files", content=body, headers=[(b"content-type", content_type.encode("latin-1"))]
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert len(answer.content) < 1024
        assert (await client.get("/v1/files")).json()["data"] == []
        assert await uploaded(client, b"{}\n")


async def test_a_boundary_of_a_megabyte_is_too_long_a_header() -> None:
    async with uploads() as api, api.client() as client, api.raw() as stream:
        head = api.head("POST", "/v1/files", "Content-Type: multipart/form-data; boundary=" + "b" * (1 << 20))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, stream, head)
            answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        assert (await client.get("/v1/files")).status_code == 200


async def send(stream: trio.SocketStream, data: bytes) -> None:
    """Send what the other end takes of it."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\\\x\\\\in.jsonl", "/", "a%00b", "x" * 5000, "..", "\x1b[2J"])
async def test_a_path_as_a_file_name_is_no_more_than_a_name(name: str) -> None:
    async with uploads() as api, api.client() as client:
        body = PURPOSE + part(f'; name="file"; filename="{name}"', b"{}") + END
        answer = await client.post("/v1/files", content=body, headers={"content-type": FORM})
        assert answer.status_code == 200, answer.text
        kept = answer.json()["filename"]
        assert kept.isprintable()
        assert 1 <= len(kept) <= 255
        assert not set(kept) & set("/\\")


async def test_another_sites_page_hands_nothing_in() -> None:
    settings = ApiSettings(address="127.0.0.1:0", cors_origins=("https://chat.example",))
    async with batch_api(Scripted(spoken("x")), settings=settings) as api, api.client() as client:
        body = PURPOSE + FILE + END
        for strange in (
            {"origin": "https://evil.test"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "cross-site", "origin": "https://chat.example"},
        ):
            answer = await client.post("/v1/files", content=body, headers={"content-type": FORM} | strange)
            assert answer.status_code == 403, strange
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing() -> None:
    async with kept() as there, serving(there) as api:
        async with api.raw() as stream:
            head = api.head(
                "POST", "/v1/files", f"Content-Type: {FORM}", "Transfer-Encoding: chunked", "Expect: 100-continue"
            )
            await stream.send_all(head)
            await read_until(stream, b" 100 ")
            begun = PURPOSE + part('; name="file"; filename="x"', b"x" * (3 << 19))
            await stream.send_all(b"%x\r\n%b\r\n" % (len(begun), begun))
            while not (await there.vault.counts()).get("file_piece"):
                pass
        with trio.fail_after(20):
            while await there.vault.counts():
                pass


@asynccontextmanager
async def uploads() -> AsyncIterator[Api]:
    """The API that takes a megabyte at a time."""
    settings = ApiSettings(address="127.0.0.1:0", max_body=MOST)
    async with batch_api(Scripted(spoken("x")), settings=settings) as api:
        yield api
