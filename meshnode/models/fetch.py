"""The only door of this room to HTTP: fetch a file into a :class:`~meshnode.models.store.Part`, resumably.

What can go wrong, and what is done: a connection that breaks off or stalls, a server that is busy: tried again with
growing pauses, from where it ended, as long as there is progress. A length that contradicts what was listed, another
content than a GGUF, a redirect from https to http, no room on the disk: refused at once. A file that
changed in between is begun anew (``If-Range``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import FileIO
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx2
import trio

from meshnode import __version__
from meshnode.errors import DiskFull, MeshnodeError, ModelFileRefused, SourceFailed
from meshnode.models.fit import gigabytes
from meshnode.models.hashing import write_all
from meshnode.models.sources import public_url
from meshnode.models.store import Part, PartNote, translated

CHUNK = 1 << 20
PROGRESS = 1 << 16
"""Bytes that a try must bring for the next one to count as the first."""
MAX_REDIRECTS = 10
MAX_LISTING = 16 << 20
RESERVE = 64 << 20
"""Bytes of disk that a fetch leaves free."""
LONGEST_PAUSE_S = 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')

Report = Callable[[int, int | None], Awaitable[None]]
"""Told ``(bytes there, bytes in all if known)`` as they come."""


class Wanted(NamedTuple):
    """What to fetch; size and hash where they are known beforehand."""

    url: str
    size: int | None = None
    sha256: str | None = None


class _BrokenError(Exception):
    """Worth another try; ``unreachable``: only one more, for nobody is there."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable


async def reachable(url: str) -> bool:
    """Whether anything answers HTTP there; the caller bounds the time."""
    try:
        async with httpx2.AsyncClient(timeout=None) as http:
            await http.head(url)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return False
    return True


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: a token goes to no other than the hub's."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def next_url(current: str, location: str) -> str:
    """Where a redirect leads. Raises SourceFailed where it leaves http(s), or https for http."""
    target = urljoin(current, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https") or (scheme == "http" and urlsplit(current).scheme == "https"):
        raise SourceFailed(
            f"{public_url(current)} redirects to {scheme or 'nowhere'}:, which is not safe.",
            hint="Give the URL of the file itself.",
        )
    return target


def refusal(status: int, url: str) -> MeshnodeError:
    """The error for an answer that trying again will not change."""
    shown = public_url(url)
    if status in (401, 403):
        return SourceFailed(
            f"{shown} is not open to everyone (HTTP {status}).",
            hint="If it is a gated model: accept its terms on the hub's page, then set HF_TOKEN to a read token.",
        )
    if status in (404, 410):
        return SourceFailed(f"there is nothing at {shown} (HTTP {status}).", hint="Check the name; hubs compare case.")
    return SourceFailed(f"{shown} answered HTTP {status}.", hint="Try another source.")


class Fetcher:
    """Fetches listings and files. Made by :func:`open_fetcher`."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        hub: str,
        token: str | None,
        free_space: Callable[[], int],
        pause: Callable[[float], Awaitable[None]],
        tries: int,
    ) -> None:
        self._client = client
        self._hub = origin(hub)
        self._token = token
        self._free_space = free_space
        self._pause = pause
        self._tries = tries

    async def listing(self, url: str) -> tuple[bytes, str | None]:
        """The body at ``url`` (at most :data:`MAX_LISTING` bytes) and the next page's URL, on the same origin only."""
        failures = 0
        while True:
            try:
                return await self._listing(url)
            except _BrokenError as broken:
                failures += 1
                await self._again(broken, failures, url)

    async def _listing(self, url: str) -> tuple[bytes, str | None]:
        body = bytearray()
        async with self._open(url, {}) as (response, _):
            if response.status_code != 200:
                raise refusal(response.status_code, url)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise SourceFailed(f"{public_url(url)} answers in another encoding.")
            async with _body(response) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MAX_LISTING:
                        raise SourceFailed(f"{public_url(url)} answers with more than {MAX_LISTING} bytes.")
            found = _NEXT.search(response.headers.get("link", ""))
        following = urljoin(url, found[1]) if found else None
        return bytes(body), following if following and origin(following) == origin(url) else None

    async def download(self, wanted: Wanted, part: Part, report: Report) -> str | None:
        """Fetch a file into ``part``; gives the sha256 that it should have, where one is known.

        Raises SourceFailed, DiskFull or ModelFileRefused; what came stays in ``part`` for the next time.
        """
        failures, best = 0, part.size()
        while True:
            try:
                return await self._attempt(wanted, part, report)
            except _BrokenError as broken:
                size = part.size()
                failures = 0 if size >= best + PROGRESS else failures + 1
                best = max(size, best)
                await self._again(broken, failures, wanted.url)

    async def _again(self, broken: _BrokenError, failures: int, url: str) -> None:
        """Pause before the next try, or give up."""
        if failures >= (min(self._tries, 2) if broken.unreachable else self._tries):
            raise SourceFailed(
                f"{public_url(url)}: {broken.reason} ({failures} tries).",
                hint="Try again later: what was fetched is kept.",
            ) from broken
        await self._pause(min(max(0.5 * 2**failures, broken.retry_after_s), LONGEST_PAUSE_S))

    async def _attempt(self, wanted: Wanted, part: Part, report: Report) -> str | None:
        note = part.note()
        at = part.size() if _resumable(note, wanted) else 0
        headers: dict[str, str] = {}
        if at:
            headers["Range"] = f"bytes={at}-"
            if note is not None and note.etag:
                headers["If-Range"] = note.etag
        async with self._open(wanted.url, headers) as (response, linked):
            sha256 = wanted.sha256 or linked
            at, total = _placed(response, at, wanted, part)
            if at and at == total:
                return sha256
            self._check_room((total or 0) - at)
            etag = response.headers.get("etag", "")
            strong = "" if etag.startswith("W/") else etag
            note = PartNote(url=public_url(wanted.url), etag=strong, size=total, sha256=sha256)
            await trio.to_thread.run_sync(part.remember, note)
            async with _body(response) as chunks:
                await self._receive(public_url(str(response.url)), chunks, part, at, total, report)
        if total is not None and part.size() != total:
            raise _BrokenError(f"broke off at byte {part.size()} of {total}")
        return sha256

    async def _receive(
        self, url: str, chunks: AsyncIterator[bytes], part: Part, at: int, total: int | None, report: Report
    ) -> None:
        """Write the body behind byte ``at``; what came before an error or a cancellation is kept."""
        pending = bytearray()
        await report(at, total)
        with part.open_for_append(at) as file:
            try:
                async for chunk in chunks:
                    pending += chunk
                    if at == 0 and len(pending) >= 4:
                        _check_magic(bytes(pending[:4]), url)
                    if total is not None and at + len(pending) > total:
                        raise SourceFailed(f"{url} sends more than the {total} bytes it announced.")
                    if len(pending) >= CHUNK:
                        await trio.to_thread.run_sync(_write, file, at, bytes(pending), part)
                        at += len(pending)
                        pending.clear()
                        self._check_room(0)
                        await report(at, total)
            finally:
                if at or len(pending) >= 4:
                    _write(file, at, bytes(pending), part)
        await report(at + len(pending), total)

    def _check_room(self, coming: int) -> None:
        free = self._free_space()
        if coming + RESERVE > free:
            raise DiskFull(
                f"the model needs {gigabytes(max(coming, 0) + RESERVE)} more, and {gigabytes(free)} is free.",
                hint="Free some space, or choose a smaller quantisation.",
            )

    @contextlib.asynccontextmanager
    async def _open(self, url: str, headers: dict[str, str]) -> AsyncIterator[tuple[httpx2.Response, str | None]]:
        """The answer at the end of the redirects, and the sha256 that the hub itself named on the way.

        Raises _BrokenError for what is worth another try.
        """
        linked: str | None = None
        for _ in range(MAX_REDIRECTS + 1):
            own = dict(headers)
            if self._token and origin(url) == self._hub:
                own["Authorization"] = f"Bearer {self._token}"
            with _network_errors(url):
                response = await self._client.send(self._client.build_request("GET", url, headers=own), stream=True)
            try:
                if origin(url) == self._hub:
                    linked = linked or _linked_hash(response)
                if not response.has_redirect_location:
                    _check_busy(response)
                    yield response, linked
                    return
                url = next_url(url, response.headers["location"])
            finally:
                await response.aclose()
        raise SourceFailed(f"{public_url(url)}: more than {MAX_REDIRECTS} redirects.", hint="Try another source.")


@contextlib.asynccontextmanager
async def open_fetcher(
    *,
    hub: str,
    token: str | None,
    free_space: Callable[[], int],
    pause: Callable[[float], Awaitable[None]] = trio.sleep,
    stall_s: float = 30.0,
    tries: int = 5,
) -> AsyncIterator[Fetcher]:
    """A fetcher. ``hub`` is the only origin that ``token`` is sent to; a try ends after ``stall_s`` of silence."""
    headers = {"User-Agent": f"meshnode/{__version__}", "Accept-Encoding": "identity"}
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(stall_s), follow_redirects=False) as client:
        yield Fetcher(client, hub=hub, token=token, free_space=free_space, pause=pause, tries=tries)


# --- reading an answer ------------------------------------------------------------------------


def _resumable(note: PartNote | None, wanted: Wanted) -> bool:
    """Whether a partial file may be continued: from the same place, and something will tell if the content changed."""
    if note is None or note.url != public_url(wanted.url):
        return False
    if wanted.sha256 and note.sha256 and wanted.sha256 != note.sha256:
        return False
    return bool(note.etag or wanted.sha256 or note.sha256)


def _placed(response: httpx2.Response, at: int, wanted: Wanted, part: Part) -> tuple[int, int | None]:
    """``(first byte that comes, bytes in all)``. Raises SourceFailed, or _BrokenError after dropping a useless part."""
    status = response.status_code
    url = str(response.url)
    if status == 416 and at:
        if response.headers.get("content-range", "") == f"bytes */{at}" and wanted.size in (None, at):
            return at, at
        part.discard()
        raise _BrokenError("the server has no such part of the file")
    if status not in (200, 206):
        raise refusal(status, wanted.url)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise SourceFailed(f"{public_url(url)} sends the file in another encoding.", hint="Try another source.")
    length = response.headers.get("content-length", "")
    total = int(length) if length.isdecimal() else None
    start = 0
    if status == 206:
        found = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if found is None or int(found[1]) != at or not at:
            part.discard()
            raise _BrokenError("the server answered with another part of the file")
        start, total = at, int(found[3])
    if wanted.size is not None and total is not None and total != wanted.size:
        raise SourceFailed(
            f"{public_url(url)} announces {total} bytes, where {wanted.size} are listed.", hint="Try again later."
        )
    return start, wanted.size if total is None else total


@contextlib.asynccontextmanager
async def _body(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of the answer as they come. Raises what :func:`_network_errors` does."""
    chunks = response.aiter_raw()
    try:
        with _network_errors(str(response.url)):
            yield chunks
    finally:
        # Left in the middle, the library's inner generators would be finalised by the garbage collector. On a closed
        # connection they come to their own end.
        with trio.CancelScope(shield=True):
            await response.aclose()
            with contextlib.suppress(Exception):
                while True:
                    await anext(chunks)


def _check_magic(start: bytes, url: str) -> None:
    if start != b"GGUF":
        raise ModelFileRefused(
            f"what {url} sends is not a GGUF: it begins with {start!r}.",
            hint="Give the URL of the file itself, not of a page about it.",
        )


def _check_busy(response: httpx2.Response) -> None:
    if response.status_code in (408, 425, 429, 500, 502, 503, 504):
        after = response.headers.get("retry-after", "")
        raise _BrokenError(f"HTTP {response.status_code}", retry_after_s=float(after) if after.isdecimal() else 0.0)


def _linked_hash(response: httpx2.Response) -> str | None:
    """The hub names a large file by its sha256 in ``X-Linked-ETag``."""
    digest = response.headers.get("x-linked-etag", "").strip().strip('"')
    return digest if _SHA256.fullmatch(digest) else None


def _write(file: FileIO, at: int, data: bytes, part: Part) -> None:
    """Write at a place, so that a second call with the same bytes (after a failure) changes nothing."""
    with translated(part.path.parent):
        file.seek(at)
        write_all(file, data)


@contextlib.contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """httpx's exceptions as this project's, or as :class:`_BrokenError`."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise _BrokenError("nothing came for too long") from error
    except httpx2.ConnectError as error:
        raise _BrokenError("the host cannot be reached", unreachable=True) from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        raise _BrokenError(f"the connection broke off ({type(error).__name__})") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise SourceFailed(f"{public_url(url)} cannot be fetched: {type(error).__name__}.") from error
