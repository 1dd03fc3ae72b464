"""A download survives what networks do to it, and believes no server about what it is getting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from meshnode.errors import DiskFull, ModelFileRefused, SourceFailed
from meshnode.models.fetch import CHUNK, RESERVE, Fetcher, Wanted, next_url, open_fetcher, origin
from meshnode.models.store import Part, PartNote, Store, part_key
from tests.kit.hub import Hub, Served, open_hub

BODY = b"GGUF" + bytes(range(256)) * (5 * CHUNK // 512)
DIGEST = "ab" * 32


class Pauses:
    """Pauses that last no time and are counted."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await trio.lowlevel.checkpoint()


async def quiet(done: int, total: int | None) -> None:
    """A report nobody reads."""


@asynccontextmanager
async def fetching(
    hub: Hub, *, token: str | None = None, free: Callable[[], int] = lambda: 1 << 40, stall_s: float = 20.0
) -> AsyncIterator[tuple[Fetcher, Pauses]]:
    """A fetcher for the hub, and the pauses it takes."""
    pauses = Pauses()
    with trio.fail_after(60):
        async with open_fetcher(
            hub=hub.url, token=token, free_space=free, pause=pauses, stall_s=stall_s, tries=3
        ) as fetcher:
            yield fetcher, pauses


def part_of(store: Store) -> Part:
    """The part that the tests fill."""
    return store.part(part_key("test"))


def content(part: Part) -> bytes:
    """What has come so far."""
    with part.open() as file:
        return file.read()


async def test_a_file_arrives_with_its_progress(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY)
    told: list[tuple[int, int | None]] = []

    async def report(done: int, total: int | None) -> None:
        told.append((done, total))

    async with fetching(hub) as (fetcher, pauses):
        assert await fetcher.download(Wanted(hub.url + "/m"), part_of(store), report) is None
    assert content(part_of(store)) == BODY
    assert told[0] == (0, len(BODY))
    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert pauses.taken == []


async def test_a_broken_connection_is_resumed_where_it_ended(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, cuts=[1_000_000, 700_000, 3])
    async with fetching(hub) as (fetcher, pauses):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY
    ranges = [request.headers.get("range") for request in hub.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=1700000-", "bytes=1700003-"]
    assert all(request.headers.get("if-range") == '"v1"' for request in hub.requests[1:])
    assert pauses.taken == [0.5, 0.5, 1.0]


async def test_another_process_goes_on_with_the_part(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, stall_after=2 * CHUNK)
    async with fetching(hub) as (fetcher, _), trio.open_nursery() as nursery:

        async def leave_after_a_chunk(done: int, total: int | None) -> None:
            if done:
                nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()

        nursery.start_soon(fetcher.download, Wanted(hub.url + "/m"), part_of(store), leave_after_a_chunk)
    so_far = part_of(store).size()
    assert CHUNK <= so_far < len(BODY)
    hub.served["/m"] = Served(BODY)
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY
    assert hub.requests[-1].headers["range"] == f"bytes={so_far}-"


async def test_a_finished_part_is_not_fetched_again(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY)
    for _ in range(2):
        async with fetching(hub) as (fetcher, _):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert hub.requests[-1].headers["range"] == f"bytes={len(BODY)}-"
    assert content(part_of(store)) == BODY


async def test_a_file_that_changed_is_begun_anew(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, cuts=[1_000_000, 0, 0, 0, 0])
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
        changed = b"GGUF, the second edition" * 1000
        hub.served["/m"] = Served(changed, etag='"v2"')
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == changed


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
async def test_without_a_way_to_tell_nothing_is_resumed(hub: Hub, store: Store, etag: str | None) -> None:
    hub.served["/m"] = Served(BODY, etag=etag, cuts=[1_000_000])
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
        assert "range" not in hub.requests[-1].headers
        hub.served["/m"] = Served(BODY, etag=etag, cuts=[1_000_000])
        part_of(store).discard()
        await fetcher.download(Wanted(hub.url + "/m", sha256=DIGEST), part_of(store), quiet)
        assert hub.requests[-1].headers["range"] == "bytes=1000000-"
    assert content(part_of(store)) == BODY


async def test_a_server_without_ranges_sends_it_all_again(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, ranges=False, cuts=[1_000_000])
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY


async def test_a_server_that_never_gets_further_is_given_up(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, ranges=False, cuts=[2000] * 10)
    async with fetching(hub) as (fetcher, pauses):
        with pytest.raises(SourceFailed, match=r"broke off.*3 tries") as caught:
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert "kept" in caught.value.hint
    assert part_of(store).size() == 2000
    assert pauses.taken == sorted(pauses.taken)


async def test_the_wrong_part_is_not_taken(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, cuts=[1_000_000], wrong_range=True)
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY


async def test_a_part_longer_than_the_file_is_dropped(hub: Hub, store: Store) -> None:
    part = part_of(store)
    with part.open_for_append(0) as file:
        file.write(b"GGUF" + bytes(len(BODY) + 100))
    part.remember(PartNote(url=hub.url + "/m", etag='"v1"'))
    hub.served["/m"] = Served(BODY)
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part, quiet)
    assert content(part) == BODY


@pytest.mark.parametrize("announce", [len(BODY) + 1000, len(BODY) - 1000])
async def test_a_length_that_contradicts_the_listing_is_refused(hub: Hub, store: Store, announce: int) -> None:
    hub.served["/m"] = Served(BODY, announce=announce)
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match=f"announces {announce} bytes, where {len(BODY)} are listed"):
            await fetcher.download(Wanted(hub.url + "/m", size=len(BODY)), part_of(store), quiet)
    assert part_of(store).size() == 0


async def test_a_length_longer_than_what_comes_ends_in_an_error(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, announce=len(BODY) + 1000, ranges=False)
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match="broke off"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)


async def test_more_than_was_listed_is_refused(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, chunked=True)
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match="sends more than the 5000 bytes"):
            await fetcher.download(Wanted(hub.url + "/m", size=5000), part_of(store), quiet)


async def test_a_length_nobody_tells_is_no_obstacle(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, chunked=True)
    async with fetching(hub) as (fetcher, _):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY


@pytest.mark.parametrize(
    ("status", "reason", "hint"),
    [
        (404, "there is nothing at", "Check the name"),
        (410, "there is nothing at", "Check the name"),
        (401, "not open to everyone", "HF_TOKEN"),
        (403, "not open to everyone", "HF_TOKEN"),
        (418, "answered HTTP 418", "another source"),
    ],
)
async def test_a_refusal_is_said_at_once(hub: Hub, store: Store, status: int, reason: str, hint: str) -> None:
    hub.served["/m"] = Served(BODY, status=status)
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match=reason) as caught:
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert hint in caught.value.hint
    assert len(hub.requests) == 1


async def test_a_busy_server_is_asked_again_when_it_says(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, statuses=[503, 429], headers={"Retry-After": "7"})
    async with fetching(hub) as (fetcher, pauses):
        await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert content(part_of(store)) == BODY
    assert pauses.taken == [7, 7]


async def test_a_page_in_place_of_a_model_is_refused_early(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(b"<!DOCTYPE html>" * 500_000)
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(ModelFileRefused, match="begins with b'<!DO'"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)


async def test_an_encoded_answer_is_refused(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, headers={"Content-Encoding": "gzip"})
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match="another encoding"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)


async def test_silence_is_borne_only_so_long(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY, stall_after=1000, ranges=False)
    async with fetching(hub, stall_s=0.2) as (fetcher, _):
        with pytest.raises(SourceFailed, match="nothing came for too long"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert part_of(store).size() == 1000


async def test_nobody_there_is_said_soon(store: Store) -> None:
    async with open_hub() as gone:
        pass
    async with fetching(gone) as (fetcher, pauses):
        with pytest.raises(SourceFailed, match="cannot be reached"):
            await fetcher.download(Wanted(gone.url + "/m"), part_of(store), quiet)
    assert len(pauses.taken) == 1


async def test_a_full_disk_is_seen_before_the_download(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(BODY)
    async with fetching(hub, free=lambda: RESERVE + len(BODY) - 1) as (fetcher, _):
        with pytest.raises(DiskFull, match=r"needs 7\d MB more, and 7\d MB is free"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert part_of(store).size() == 0


async def test_a_disk_that_fills_up_stops_a_download_of_unknown_length(hub: Hub, store: Store) -> None:
    room = iter([RESERVE * 2, RESERVE * 2, RESERVE - 1])
    hub.served["/m"] = Served(BODY, chunked=True)
    async with fetching(hub, free=lambda: next(room)) as (fetcher, _):
        with pytest.raises(DiskFull):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
    assert part_of(store).size() < len(BODY)


async def test_redirects_are_followed_and_the_hubs_hash_is_believed(hub: Hub, store: Store) -> None:
    async with open_hub() as elsewhere:
        hub.served["/m"] = Served(redirect="/again", headers={"X-Linked-ETag": f'"{DIGEST}"'})
        hub.served["/again"] = Served(redirect=elsewhere.url + "/blob?signed=1")
        elsewhere.served["/blob?signed=1"] = Served(BODY, headers={"X-Linked-ETag": '"' + "0" * 64 + '"'})
        async with fetching(hub) as (fetcher, _):
            assert await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet) == DIGEST
    assert content(part_of(store)) == BODY


async def test_a_token_goes_to_the_hub_alone(hub: Hub, store: Store) -> None:
    async with open_hub() as elsewhere:
        hub.served["/m"] = Served(redirect=elsewhere.url + "/blob")
        elsewhere.served["/blob"] = Served(BODY)
        async with fetching(hub, token="hf_secret") as (fetcher, _):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)
        assert hub.requests[0].headers["authorization"] == "Bearer hf_secret"
        assert "authorization" not in elsewhere.requests[0].headers


async def test_a_ring_of_redirects_ends(hub: Hub, store: Store) -> None:
    hub.served["/m"] = Served(redirect="/m")
    async with fetching(hub) as (fetcher, _):
        with pytest.raises(SourceFailed, match="more than 10 redirects"):
            await fetcher.download(Wanted(hub.url + "/m"), part_of(store), quiet)


async def test_a_listing_is_bounded_and_paged(hub: Hub) -> None:
    hub.served["/list"] = Served(b"[1]", headers={"Link": f'<{hub.url}/list?cursor=2>; rel="next"'})
    hub.served["/list?cursor=2"] = Served(b"[2]", headers={"Link": '<http://elsewhere.example/list>; rel="next"'})
    hub.served["/huge"] = Served(bytes(17 << 20))
    hub.served["/busy"] = Served(b"[3]", statuses=[500])
    async with fetching(hub) as (fetcher, _):
        body, following = await fetcher.listing(hub.url + "/list")
        assert (body, following) == (b"[1]", hub.url + "/list?cursor=2")
        assert await fetcher.listing(hub.url + "/list?cursor=2") == (b"[2]", None)
        assert await fetcher.listing(hub.url + "/busy") == (b"[3]", None)
        with pytest.raises(SourceFailed, match="more than"):
            await fetcher.listing(hub.url + "/huge")
        with pytest.raises(SourceFailed, match="there is nothing at"):
            await fetcher.listing(hub.url + "/missing")


@pytest.mark.parametrize(
    ("current", "location", "expected"),
    [
        ("https://h/a/b", "/c", "https://h/c"),
        ("https://h/a/b", "c?d", "https://h/a/c?d"),
        ("http://h/a", "https://other/x", "https://other/x"),
        ("https://h/a", "http://h/a", None),
        ("https://h/a", "file:///etc/passwd", None),
        ("http://h/a", "ftp://h/a", None),
    ],
)
def test_redirects_never_leave_safety(current: str, location: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(SourceFailed, match="not safe"):
            next_url(current, location)
    else:
        assert next_url(current, location) == expected


def test_origins_are_scheme_host_and_port() -> None:
    assert origin("https://h/x") == origin("https://H:443/y") == ("https", "h", 443)
    assert origin("http://h") != origin("https://h")
