"""The typed client for trio: :mod:`meshnode.client`, awaited. Questions and records are the same.

async with open_client(Path("~/.meshnode").expanduser()) as node:
    print((await node.status()).peer_id)
    async with node.pull("default") as steps:
        async for step in steps:
            print(step.phase, step.done)
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2
import trio

from meshnode import client_asks as asks
from meshnode.client_answers import (
    Catalog,
    Comparison,
    Explanation,
    Health,
    JobStatus,
    Piece,
    Ranked,
    Receipt,
    Template,
    TemplateHead,
)
from meshnode.client_reading import Ask, Flow, Lines, raise_envelope
from meshnode.client_records import Credits, History, Model, Outlook, Peer, PullProgress, Served, Status
from meshnode.client_road import Road, home_road, timeouts, translated, url_road
from meshnode.domain import Message, ModelId, PeerId

R = TypeVar("R")


class Client:
    """One connection's worth of questions to a node; made by :func:`open_client` or :func:`open_client_at`."""

    def __init__(self, http: httpx2.AsyncClient, road: Road) -> None:
        self._http = http
        self._road = road

    async def ask(self, ask: Ask[R]) -> R:
        """Put any question of :mod:`meshnode.client_asks`."""
        with translated(self._road):
            answer = await self._http.request(ask.method, ask.path, json=ask.body, timeout=timeouts(ask.timeout_s))
        if answer.status_code >= 400 and answer.status_code not in ask.also:
            raise_envelope(answer.content, answer.status_code)
        return ask.read(answer.content)

    @contextlib.asynccontextmanager
    async def flow(self, flow: Flow[R]) -> AsyncIterator[AsyncIterator[R]]:
        """The answer to any question whose answer comes piece by piece. Leaving the block breaks off."""
        asked = self._http.stream("POST", flow.path, json=flow.body, timeout=timeouts(asks.SILENCE_S))
        async with contextlib.AsyncExitStack() as stack:
            with translated(self._road):
                answer = await stack.enter_async_context(asked)
                if answer.status_code >= 400:
                    raise_envelope(await answer.aread(), answer.status_code)
            pieces = answer.aiter_raw()
            stack.push_async_callback(_run_out, answer, pieces)
            yield _Items(pieces, Lines(flow.read), self._road)

    # --- the node and its models ----------------------------------------------------------------------

    async def status(self) -> Status:
        """What the node is and does."""
        return await self.ask(asks.status())

    async def status_json(self) -> bytes:
        """``/api/status`` as the node wrote it."""
        return await self.ask(asks.raw(asks.status()))

    async def health(self) -> Health:
        """Whether a model can answer, here or at a peer, and what is missing else."""
        return await self.ask(asks.health())

    async def metrics(self) -> str:
        """Counters in Prometheus' text format."""
        return await self.ask(asks.metrics())

    async def models(self) -> tuple[Model, ...]:
        """The models the node holds, loaded or not, and those that only its peers serve."""
        return await self.ask(asks.models())

    async def scan(self) -> tuple[Model, ...]:
        """Look for models that other programs on this machine hold; those found new, nothing copied."""
        return await self.ask(asks.scan())

    async def add(self, path: Path, *, name: str | None = None) -> Model:
        """Refer to a GGUF file where it lies. Raises ModelFileRefused or SourceFailed."""
        return await self.ask(asks.add(path, name))

    async def remove(self, model: str) -> ModelId:
        """Forget a model, and delete its file if it lies in the home; its whole name. Raises ModelNotFound."""
        return await self.ask(asks.remove(model))

    async def fit(self, model: str, context: int = 0) -> Outlook:
        """Whether a model would run there, and how; ``context`` in tokens, 0: the node's. Raises ModelNotFound."""
        return await self.ask(asks.fit(model, context))

    async def load(self, model: str) -> Model:
        """Bring a model into memory; returns when it is there. Raises ModelFailed."""
        return await self.ask(asks.load(model))

    async def unload(self, model: str) -> Model:
        """Take a model out of memory. Raises Conflict while it answers."""
        return await self.ask(asks.unload(model))

    async def stop(self) -> None:
        """Ask the node to stop; it then ends its answers within its deadline."""
        await self.ask(asks.stop())

    def pull(self, source: str) -> AbstractAsyncContextManager[AsyncIterator[PullProgress]]:
        """Fetch a model (``default``, a URL, a file, ``hf:owner/repo:quant``), telling how far it is.

        Leaving the block breaks off; the next pull goes on from there. Raises SourceFailed, DiskFull …
        """
        return self.flow(asks.pull(source))

    def chat(
        self, messages: Iterable[Message], *, model: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The answer to a conversation of text messages, piece by piece. Leaving the block stops it.

        ``model`` ``None`` is the node's default.
        """
        return self.flow(asks.chat(messages, model))

    # --- prompts --------------------------------------------------------------------------------------

    async def tokenize(self, text: str, *, model: str | None = None) -> tuple[int, ...]:
        """The token ids of a text."""
        return await self.ask(asks.tokenize(text, model))

    async def pieces(self, text: str, *, model: str | None = None) -> tuple[Piece, ...]:
        """The tokens of a text with what each stands for."""
        return await self.ask(asks.pieces(text, model))

    async def detokenize(self, tokens: Iterable[int], *, model: str | None = None) -> str:
        """The text of token ids."""
        return await self.ask(asks.detokenize(tokens, model))

    async def apply_template(self, messages: Iterable[Mapping[str, Any]], *, model: str | None = None) -> str:
        """The text that a conversation, as chat completions takes it, is to a model. Raises TemplateRefused."""
        return await self.ask(asks.apply_template(messages, model))

    async def templates(self) -> tuple[TemplateHead, ...]:
        """The stored prompts, each by its newest version."""
        return await self.ask(asks.templates())

    async def template(self, name: str, *, version: int | None = None) -> Template:
        """A stored prompt with its text, by default its newest version. Raises NotFound."""
        return await self.ask(asks.template(name, version))

    async def add_template(self, name: str, messages: Iterable[Mapping[str, str]]) -> TemplateHead:
        """Store a version of a prompt: messages with ``role`` and ``content``, places as ``{{name}}``."""
        return await self.ask(asks.add_template(name, messages))

    async def remove_template(self, name: str) -> int:
        """Forget a stored prompt; how many versions it had. Raises NotFound."""
        return await self.ask(asks.remove_template(name))

    async def history(self) -> History:
        """How much the node keeps of what was asked and answered."""
        return await self.ask(asks.history())

    async def clear_history(self) -> History:
        """Forget all of it, everybody's; gives what there was."""
        return await self.ask(asks.clear_history())

    # --- comparing, ranking, later ----------------------------------------------------------------------

    async def compare(self, models: Iterable[str], messages: Iterable[Mapping[str, Any]], **fields: Any) -> Comparison:
        """One prompt to two to eight models at a time; ``fields`` are those of a chat request."""
        return await self.ask(asks.compare(models, messages, **fields))

    async def rerank(
        self, query: str, documents: Iterable[str], *, model: str | None = None, top_n: int | None = None
    ) -> tuple[Ranked, ...]:
        """Documents by how well they answer a question, best first. Raises CapabilityUnavailable."""
        return await self.ask(asks.rerank(query, documents, model, top_n))

    async def jobs(self, *, after: str | None = None) -> tuple[JobStatus, ...]:
        """The caller's jobs without their answers, newest first, a page of them."""
        return await self.ask(asks.jobs(after))

    async def job(self, id_: str) -> JobStatus:
        """A job, with its answer once it is over. Raises NotFound."""
        return await self.ask(asks.job(id_))

    async def cancel_job(self, id_: str) -> JobStatus:
        """Stop a job; one that is over stays as it is. Raises NotFound."""
        return await self.ask(asks.cancel_job(id_))

    async def delete_job(self, id_: str) -> None:
        """Stop and forget a job. Raises NotFound."""
        await self.ask(asks.delete_job(id_))

    # --- the mesh -------------------------------------------------------------------------------------

    async def peers(self) -> tuple[Peer, ...]:
        """Peers that are connected or whose offers are known."""
        return await self.ask(asks.peers())

    async def credits(self) -> Credits:
        """What the node earned and spent."""
        return await self.ask(asks.credits_())

    async def credits_json(self) -> bytes:
        """``/api/credits`` as the node wrote it."""
        return await self.ask(asks.raw(asks.credits_()))

    async def catalog(self) -> Catalog:
        """What can be asked of the node now, here and in its mesh, and how fast it answered lately."""
        return await self.ask(asks.catalog())

    async def receipt(self, id_: str) -> Receipt:
        """What one answer of a peer cost, by the id it came with. Raises NotFound."""
        return await self.ask(asks.receipt(id_))

    async def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Who would answer the body of a chat, a completion or an embedding, and why not others; nobody is asked."""
        return await self.ask(asks.explain(request))

    async def join(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>``, now and at each start. Raises InvalidField or Unreachable."""
        return await self.ask(asks.join(address))

    async def leave(self) -> int:
        """Forget every peer, and let strangers in no more; how many addresses were forgotten."""
        return await self.ask(asks.leave())

    async def served(self) -> tuple[Served, ...]:
        """The node's models, and whether strangers may use each."""
        return await self.ask(asks.served())

    async def serve(self, model: str, on: bool) -> Served:
        """Let strangers use a model from now on, or no more. Raises ModelNotFound."""
        return await self.ask(asks.serve(model, on))


async def _run_out(answer: httpx2.Response, pieces: AsyncIterator[bytes]) -> None:
    """Hang up, and let the generators that httpx2 reads with come to their ends: it leaves them half-way."""
    await answer.aclose()
    with contextlib.suppress(httpx2.HTTPError, httpx2.StreamError):
        async for _ in pieces:
            pass


class _Items(Generic[R]):
    """What the lines of a stream hold, one by one."""

    def __init__(self, pieces: AsyncIterator[bytes], lines: Lines[R], road: Road) -> None:
        self._road = road
        self._pieces = pieces
        self._lines = lines
        self._ready: deque[R | Exception] = deque()

    def __aiter__(self) -> _Items[R]:
        return self

    async def __anext__(self) -> R:
        while not self._ready and not self._lines.over:
            try:
                with translated(self._road):
                    piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._take(self._lines.end())
                self._lines.over = True
            else:
                self._take(self._lines.feed(piece))
        if not self._ready:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()
        first = self._ready.popleft()
        if isinstance(first, Exception):
            raise first
        return first

    def _take(self, found: Iterable[R]) -> None:
        """All of it; what went wrong after some of it is kept until that was read."""
        try:
            self._ready.extend(found)
        except Exception as error:
            self._ready.append(error)
            self._lines.over = True


@contextlib.asynccontextmanager
async def open_client(home: Path) -> AsyncIterator[Client]:
    """A client of the node that runs on ``home``. Raises NodeNotRunning when nothing listens on its socket."""
    road = await trio.to_thread.run_sync(home_road, home)
    transport = httpx2.AsyncHTTPTransport(uds=str(road.socket), verify=False)
    async with httpx2.AsyncClient(transport=transport, **road.options()) as http:
        yield Client(http, road)


@contextlib.asynccontextmanager
async def open_client_at(url: str, *, key: str | None = None, ca_file: Path | None = None) -> AsyncIterator[Client]:
    """A client of the node at ``url``, as an OpenAI client takes it or without its ``/v1``.

    ``key`` is one of the node's keys or, for what is the owner's, its admin token; ``ca_file`` has the certificates to
    trust instead of the system's.
    """
    road = url_road(url, key=key, ca_file=ca_file)
    async with httpx2.AsyncClient(verify=road.ca or True, **road.options()) as http:
        yield Client(http, road)
