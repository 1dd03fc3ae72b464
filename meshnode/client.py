"""A typed client of a running node; what the command line and other programs use.

It speaks the same HTTP as the API, over the node's control socket or at its address, and is synchronous::

    with open_client(Path("~/.meshnode").expanduser()) as node:
        print(node.status().peer_id)

Every method raises NodeNotRunning when nothing answers, and the class of :mod:`meshnode.errors` that the node's error
envelope names. :mod:`meshnode.client_trio` is the same for trio.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2

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
from meshnode.client_road import CONTROL_SOCKET as CONTROL_SOCKET
from meshnode.client_road import Road, home_road, timeouts, translated, url_road
from meshnode.client_road import start_command as start_command
from meshnode.domain import Message, ModelId, PeerId

R = TypeVar("R")


class Client:
    """One connection's worth of questions to a node; made by :func:`open_client` or :func:`open_client_at`."""

    def __init__(self, http: httpx2.Client, road: Road) -> None:
        self._http = http
        self._road = road

    def ask(self, ask: Ask[R]) -> R:
        """Put any question of :mod:`meshnode.client_asks`."""
        with translated(self._road):
            answer = self._http.request(ask.method, ask.path, json=ask.body, timeout=timeouts(ask.timeout_s))
        if answer.status_code >= 400 and answer.status_code not in ask.also:
            raise_envelope(answer.content, answer.status_code)
        return ask.read(answer.content)

    def flow(self, flow: Flow[R]) -> Generator[R, None, None]:
        """The answer to any question whose answer comes piece by piece. Closing the iterator breaks off."""
        lines = Lines(flow.read)
        asked = self._http.stream("POST", flow.path, json=flow.body, timeout=timeouts(asks.SILENCE_S))
        with translated(self._road), asked as answer:
            if answer.status_code >= 400:
                raise_envelope(answer.read(), answer.status_code)
            for piece in answer.iter_raw():
                yield from lines.feed(piece)
                if lines.over:
                    return
            yield from lines.end()

    # --- the node and its models ----------------------------------------------------------------------

    def status(self) -> Status:
        """What the node is and does."""
        return self.ask(asks.status())

    def status_json(self) -> bytes:
        """``/api/status`` as the node wrote it."""
        return self.ask(asks.raw(asks.status()))

    def health(self) -> Health:
        """Whether a model can answer, here or at a peer, and what is missing else."""
        return self.ask(asks.health())

    def metrics(self) -> str:
        """Counters in Prometheus' text format."""
        return self.ask(asks.metrics())

    def models(self) -> tuple[Model, ...]:
        """The models the node holds, loaded or not, and those that only its peers serve."""
        return self.ask(asks.models())

    def scan(self) -> tuple[Model, ...]:
        """Look for models that other programs on this machine hold; those found new, nothing copied."""
        return self.ask(asks.scan())

    def add(self, path: Path, *, name: str | None = None) -> Model:
        """Refer to a GGUF file where it lies. Raises ModelFileRefused or SourceFailed."""
        return self.ask(asks.add(path, name))

    def remove(self, model: str) -> ModelId:
        """Forget a model, and delete its file if it lies in the home; its whole name. Raises ModelNotFound."""
        return self.ask(asks.remove(model))

    def fit(self, model: str, context: int = 0) -> Outlook:
        """Whether a model would run there, and how; ``context`` in tokens, 0: the node's. Raises ModelNotFound."""
        return self.ask(asks.fit(model, context))

    def load(self, model: str) -> Model:
        """Bring a model into memory; returns when it is there. Raises ModelFailed."""
        return self.ask(asks.load(model))

    def unload(self, model: str) -> Model:
        """Take a model out of memory. Raises Conflict while it answers."""
        return self.ask(asks.unload(model))

    def stop(self) -> None:
        """Ask the node to stop; it then ends its answers within its deadline."""
        self.ask(asks.stop())

    def pull(self, source: str) -> Generator[PullProgress, None, None]:
        """Fetch a model (``default``, a URL, a file, ``hf:owner/repo:quant``), telling how far it is.

        Closing the iterator breaks off; the next pull goes on from there. Raises SourceFailed, DiskFull …
        """
        return self.flow(asks.pull(source))

    def chat(self, messages: Iterable[Message], *, model: str | None = None) -> Generator[str, None, None]:
        """The answer to a conversation of text messages, piece by piece. Closing the iterator stops it.

        ``model`` ``None`` is the node's default.
        """
        return self.flow(asks.chat(messages, model))

    # --- prompts --------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, model: str | None = None) -> tuple[int, ...]:
        """The token ids of a text."""
        return self.ask(asks.tokenize(text, model))

    def pieces(self, text: str, *, model: str | None = None) -> tuple[Piece, ...]:
        """The tokens of a text with what each stands for."""
        return self.ask(asks.pieces(text, model))

    def detokenize(self, tokens: Iterable[int], *, model: str | None = None) -> str:
        """The text of token ids."""
        return self.ask(asks.detokenize(tokens, model))

    def apply_template(self, messages: Iterable[Mapping[str, Any]], *, model: str | None = None) -> str:
        """The text that a conversation, as chat completions takes it, is to a model. Raises TemplateRefused."""
        return self.ask(asks.apply_template(messages, model))

    def templates(self) -> tuple[TemplateHead, ...]:
        """The stored prompts, each by its newest version."""
        return self.ask(asks.templates())

    def template(self, name: str, *, version: int | None = None) -> Template:
        """A stored prompt with its text, by default its newest version. Raises NotFound."""
        return self.ask(asks.template(name, version))

    def add_template(self, name: str, messages: Iterable[Mapping[str, str]]) -> TemplateHead:
        """Store a version of a prompt: messages with ``role`` and ``content``, places as ``{{name}}``."""
        return self.ask(asks.add_template(name, messages))

    def remove_template(self, name: str) -> int:
        """Forget a stored prompt; how many versions it had. Raises NotFound."""
        return self.ask(asks.remove_template(name))

    def history(self) -> History:
        """How much the node keeps of what was asked and answered."""
        return self.ask(asks.history())

    def clear_history(self) -> History:
        """Forget all of it, everybody's; gives what there was."""
        return self.ask(asks.clear_history())

    # --- comparing, ranking, later ----------------------------------------------------------------------

    def compare(self, models: Iterable[str], messages: Iterable[Mapping[str, Any]], **fields: Any) -> Comparison:
        """One prompt to two to eight models at a time; ``fields`` are those of a chat request."""
        return self.ask(asks.compare(models, messages, **fields))

    def rerank(
        self, query: str, documents: Iterable[str], *, model: str | None = None, top_n: int | None = None
    ) -> tuple[Ranked, ...]:
        """Documents by how well they answer a question, best first. Raises CapabilityUnavailable."""
        return self.ask(asks.rerank(query, documents, model, top_n))

    def jobs(self, *, after: str | None = None) -> tuple[JobStatus, ...]:
        """The caller's jobs without their answers, newest first, a page of them."""
        return self.ask(asks.jobs(after))

    def job(self, id_: str) -> JobStatus:
        """A job, with its answer once it is over. Raises NotFound."""
        return self.ask(asks.job(id_))

    def cancel_job(self, id_: str) -> JobStatus:
        """Stop a job; one that is over stays as it is. Raises NotFound."""
        return self.ask(asks.cancel_job(id_))

    def delete_job(self, id_: str) -> None:
        """Stop and forget a job. Raises NotFound."""
        self.ask(asks.delete_job(id_))

    # --- the mesh -------------------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """Peers that are connected or whose offers are known."""
        return self.ask(asks.peers())

    def credits(self) -> Credits:
        """What the node earned and spent."""
        return self.ask(asks.credits_())

    def credits_json(self) -> bytes:
        """``/api/credits`` as the node wrote it."""
        return self.ask(asks.raw(asks.credits_()))

    def catalog(self) -> Catalog:
        """What can be asked of the node now, here and in its mesh, and how fast it answered lately."""
        return self.ask(asks.catalog())

    def receipt(self, id_: str) -> Receipt:
        """What one answer of a peer cost, by the id it came with. Raises NotFound."""
        return self.ask(asks.receipt(id_))

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Who would answer the body of a chat, a completion or an embedding, and why not others; nobody is asked."""
        return self.ask(asks.explain(request))

    def join(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>``, now and at each start. Raises InvalidField or Unreachable."""
        return self.ask(asks.join(address))

    def leave(self) -> int:
        """Forget every peer, and let strangers in no more; how many addresses were forgotten."""
        return self.ask(asks.leave())

    def served(self) -> tuple[Served, ...]:
        """The node's models, and whether strangers may use each."""
        return self.ask(asks.served())

    def serve(self, model: str, on: bool) -> Served:
        """Let strangers use a model from now on, or no more. Raises ModelNotFound."""
        return self.ask(asks.serve(model, on))


@contextlib.contextmanager
def open_client(home: Path) -> Iterator[Client]:
    """A client of the node that runs on ``home``. Raises NodeNotRunning when nothing listens on its socket."""
    road = home_road(home)
    transport = httpx2.HTTPTransport(uds=str(road.socket), verify=False)
    with httpx2.Client(transport=transport, **road.options()) as http:
        yield Client(http, road)


@contextlib.contextmanager
def open_client_at(url: str, *, key: str | None = None, ca_file: Path | None = None) -> Iterator[Client]:
    """A client of the node at ``url``, as an OpenAI client takes it or without its ``/v1``.

    ``key`` is one of the node's keys or, for what is the owner's, its admin token; ``ca_file`` has the certificates to
    trust instead of the system's.
    """
    road = url_road(url, key=key, ca_file=ca_file)
    with httpx2.Client(verify=road.ca or True, **road.options()) as http:
        yield Client(http, road)
