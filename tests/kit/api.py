"""The API on a real socket, over a dispatcher that plays a script, and a library and a pool that are not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import msgspec
import trio

from meshnode.api.app import create_app
from meshnode.api.context import ApiContext, NodeFacts
from meshnode.api.server import DEFAULT_TIMING, Bound, Timing, serve
from meshnode.client_records import Fit, Outlook
from meshnode.config import ApiSettings
from meshnode.domain import FinishReason, GenerationRequest, ModelCard, ModelId
from meshnode.engine.pipe import Device, EngineInfo, Gauge
from meshnode.engine.slot import ModelState
from meshnode.errors import Conflict, ModelNotFound, SourceFailed
from meshnode.events import ChoiceFinished, Event, Finished, Started, TextDelta, Timings, Usage
from meshnode.gateway.admission import Admission
from meshnode.gateway.keys import KeyRing
from meshnode.gateway.turnstile import Turnstile
from meshnode.mesh.answer import Answer, Dispatcher, Route
from meshnode.models.arriving import Arrival, Arrivals
from meshnode.models.names import match
from meshnode.models.pull import PullProgress
from meshnode.observe import Metrics
from meshnode.storage.database import Database, open_inline
from meshnode.storage.templates import Templates
from tests.kit.fakemesh import FakeMesh
from tests.kit.kept import with_jobs

ADMIN_TOKEN = "the-admin-token"
Step = Event | Exception | Callable[[], Awaitable[object]]
"""An event to give, an error to raise, or something to wait for."""

CARD = ModelCard(
    id=ModelId("tiny:q4_1"),
    path="/models/tiny.gguf",
    size=1000,
    modified_ns=0,
    sha256="ab" * 32,
    architecture="llama",
    quantisation="q4_1",
    context_length=2048,
    family="smollm",
    license="apache-2.0",
    added=1_700_000_000,
)
CPU = Device(name="CPU", description="a cpu", kind="cpu", memory_total=8, memory_free=4)
INFO = EngineInfo(
    n_ctx=1024,
    n_ctx_train=2048,
    n_seq_max=16,
    n_vocab=256,
    n_layers=30,
    gpu_layers=0,
    devices=(CPU,),
    used_devices=("CPU",),
    backends=("CPU",),
    system_info="",
    threads=1,
    threads_batch=1,
    n_params=135,
    size_bytes=1000,
    has_template=True,
    template_sha256="",
    decode_tps=21.5,
    prefill_tps=80.25,
)


def spoken(*texts: str, prompt_tokens: int = 5, cached: int = 2) -> list[Step]:
    """An answer that goes well."""
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=len(texts), cached_tokens=cached)
    return [
        Started(prompt_tokens, cached, 7),
        *(TextDelta(text) for text in texts),
        ChoiceFinished(FinishReason.STOP),
        Finished(usage, Timings(queue_ms=1.0, prompt_ms=10.0, predicted_ms=20.0)),
    ]


def endless(text: str = "more ") -> list[Step]:
    """An answer that begins and never ends: the last step is played again and again."""
    return [Started(5), TextDelta(text)]


class ScriptedAnswer:
    """Plays the steps of one answer; ``forever`` repeats the last one."""

    def __init__(self, steps: Sequence[Step], *, forever: bool) -> None:
        self._steps = list(steps)
        self._forever = forever
        self.route = Route(kind="local", model=CARD.id, node="12D3KooWNode", reason="loaded")

    def __aiter__(self) -> ScriptedAnswer:
        return self

    async def __anext__(self) -> Event:
        while self._steps:
            step = self._steps[0] if self._forever and len(self._steps) == 1 else self._steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if not isinstance(step, msgspec.Struct):
                await step()
                continue
            await trio.lowlevel.checkpoint()
            return step
        raise StopAsyncIteration


@dataclass
class Scripted:
    """A :class:`meshnode.mesh.answer.Dispatcher`. ``refusal`` is raised instead of answering."""

    steps: Sequence[Step]
    forever: bool = False
    refusal: Exception | None = None
    requests: list[GenerationRequest] = field(default_factory=list)
    answers: list[ScriptedAnswer] = field(default_factory=list)
    inside: int = 0
    """Requests whose block is entered now."""
    entered: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer of the script."""
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        self.inside += 1
        self.entered.set()
        try:
            self.answers.append(ScriptedAnswer(self.steps, forever=self.forever))
            yield self.answers[-1]
        finally:
            self.inside -= 1
            self.left.set()


class MemoryLibrary:
    """Models that are on no disk. A pull of anything but ``default`` fails half-way; a pull of ``slow`` never ends."""

    def __init__(self, *cards: ModelCard) -> None:
        self._cards = list(cards)
        self.pulling = 0
        self.left = trio.Event()
        """A pull ended, or was left."""
        self.arrivals = Arrivals()

    def cards(self) -> tuple[ModelCard, ...]:
        """All of them."""
        return tuple(self._cards)

    def resolve(self, name: str | None) -> ModelCard:
        """By name, or the first."""
        if name is None and not self._cards:
            raise ModelNotFound("there are no models here.", param="model")
        return match(name, self.cards(), {"gpt-4o": CARD.id}) if name is not None else self._cards[0]

    def arriving(self, name: str | None) -> Arrival | None:
        """Whatever is being fetched under that name."""
        return self.arrivals.of(name)

    def enter(self, card: ModelCard) -> None:
        """The model is here now."""
        self._cards.append(card)

    async def add_file(self, path: Path, *, name: str | None = None) -> ModelCard:
        """Pretend to have read the file."""
        card = msgspec.structs.replace(CARD, id=ModelId(name or path.stem), path=str(path))
        self._cards.append(card)
        return card

    async def remove(self, name: str) -> ModelCard:
        """Forget it."""
        card = self.resolve(name)
        self._cards.remove(card)
        return card

    async def scan(self) -> list[ModelCard]:
        """Nothing new."""
        return self._cards

    @asynccontextmanager
    async def pull(self, source: str) -> AsyncIterator[AsyncIterator[PullProgress]]:
        """Two steps, then as the class says."""
        self.pulling += 1
        try:
            yield _Pull(source)
        finally:
            self.pulling -= 1
            self.left.set()


class _Pull:
    def __init__(self, source: str) -> None:
        self._source = source
        self._steps = [PullProgress(phase=phase, done=1, total=2) for phase in ("fetch", "verify")]
        if source == "default":
            self._steps.append(PullProgress(phase="done", done=2, total=2, model=CARD.id))

    def __aiter__(self) -> _Pull:
        return self

    async def __anext__(self) -> PullProgress:
        await trio.lowlevel.checkpoint()
        if self._steps:
            return self._steps.pop(0)
        if self._source == "slow":
            await trio.sleep_forever()
        if self._source != "default":
            raise SourceFailed("it broke off.", hint="Try again.")
        raise StopAsyncIteration


class MemoryPool:
    """Says that models are loaded, and loads none."""

    def __init__(self, *states: ModelState) -> None:
        self._states = {state.id: state for state in states}
        self.busy = False

    def states(self) -> tuple[ModelState, ...]:
        """As it was told."""
        return tuple(self._states.values())

    async def load(self, card: ModelCard) -> EngineInfo:
        """Say so."""
        self._states[card.id] = ready(card)
        return INFO

    async def unload(self, model: ModelId) -> None:
        """Say so, or refuse while ``busy``."""
        if self.busy:
            raise Conflict(f"{model} is answering.")
        self._states.pop(model, None)


def ready(card: ModelCard = CARD) -> ModelState:
    """The state of a model that is loaded."""
    return ModelState(
        id=card.id, state="ready", progress=1.0, info=INFO, gauge=Gauge(running=1, waiting=2, kv_used=30, kv_total=1024)
    )


def facts() -> NodeFacts:
    """A node's word about itself."""
    return NodeFacts(
        version="0.0.0",
        peer_id="12D3KooWNode",
        home=Path("/home/of/node"),
        started=0.0,
        addresses=lambda: ["/ip4/127.0.0.1/tcp/9338/p2p/12D3KooWNode"],
        api_urls=lambda: ["http://127.0.0.1:9337/v1"],
        devices=lambda: [CPU],
        backends=lambda: ["CPU"],
    )


@dataclass
class Api:
    """A running API."""

    context: ApiContext
    bound: Bound
    dispatcher: Dispatcher
    stopped: list[bool]
    database: Database
    """Where what is kept lies, unless a part of the test's own keeps it."""

    @property
    def url(self) -> str:
        """Base URL without ``/v1``."""
        return self.bound.urls[0].removesuffix("/v1")

    @property
    def scripted(self) -> Scripted:
        """The dispatcher, where it is one that plays a script."""
        assert isinstance(self.dispatcher, Scripted)
        return self.dispatcher

    def client(self) -> httpx2.AsyncClient:
        """A client for trio."""
        return httpx2.AsyncClient(base_url=self.url, timeout=30, trust_env=False)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[trio.SocketStream]:
        """A bare connection."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.bound.port)
        async with stream:
            yield stream

    def head(self, method: str = "GET", path: str = "/health", *lines: str, host: str | None = None) -> bytes:
        """A request's head; ``lines`` are further headers."""
        host = host or f"127.0.0.1:{self.bound.port}"
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def a_context(dispatcher: Dispatcher, stopped: list[bool], **fields: object) -> ApiContext:
    """A context with plausible parts, but nothing that is kept; ``fields`` replace them."""
    settings = fields.get("settings", ApiSettings(address="127.0.0.1:0"))
    assert isinstance(settings, ApiSettings)
    admission = Admission(max_generating=settings.max_generating, max_queued=settings.max_queued)
    parts: dict[str, object] = {
        "settings": settings,
        "dispatcher": dispatcher,
        "library": MemoryLibrary(CARD),
        "pool": MemoryPool(ready()),
        "mesh": FakeMesh(),
        "metrics": Metrics(),
        "facts": facts(),
        "turnstile": Turnstile(admission),
        "admin_token": ADMIN_TOKEN,
        "entropy": lambda count: bytes(range(count)),
        "clock": trio.current_time,
        "wall_clock": lambda: 1_700_000_000.5,
        "stop": lambda: stopped.append(True),
        "draining": trio.Event(),
        "keys": KeyRing(),
        "templates": None,
        "outlook": lambda card, context: Outlook(
            model=card.id, fits=True, fit=Fit(placement="cpu", context=context or card.context_length)
        ),
    }
    return ApiContext(**(parts | fields))  # type: ignore[arg-type]  # a dict of parts has one type for all


@asynccontextmanager
async def running_api(
    dispatcher: Dispatcher | None = None,
    *,
    control_socket: Path | None = None,
    timing: Timing = DEFAULT_TIMING,
    **fields: object,
) -> AsyncIterator[Api]:
    """The API on free ports of loopback; gone, connections and all, at the end of the block."""
    dispatcher = dispatcher or Scripted(spoken("Hello", " world"))
    stopped: list[bool] = []
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(open_inline())
            kept = {"templates": Templates(database, lambda: 1_700_000_000.5)}
            context = a_context(dispatcher, stopped, **(kept | fields))
            context = await stack.enter_async_context(with_jobs(context, database))
            nursery = await stack.enter_async_context(trio.open_nursery())
            server = partial(serve, control_socket=control_socket, draining=context.draining, timing=timing)
            bound = await nursery.start(server, create_app(context), context.settings)
            yield Api(context, bound, dispatcher, stopped, database)
            nursery.cancel_scope.cancel()


async def read_all(stream: trio.SocketStream) -> bytes:
    """Everything until the other end closes; a reset counts as the end."""
    data = b""
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        pass
    return data


async def read_until(stream: trio.SocketStream, mark: bytes) -> bytes:
    """Everything up to and with ``mark``, and what came with it."""
    data = b""
    while mark not in data:
        piece = await stream.receive_some(65536)
        assert piece, f"the connection ended before {mark!r}: {data[-200:]!r}"
        data += piece
    return data


def sse_data(body: str) -> Iterator[str]:
    """The data of the events in a stream's text."""
    for line in body.splitlines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
"""The smallest chat request."""
