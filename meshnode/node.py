"""The composition root: the only place where concrete things are built, nested so that shutdown is its reverse.

    home and its lock › keys › database › library › engine pool › libp2p host › mesh › HTTP servers › the model

Everything below is handed what it needs of the world: clocks, entropy, environment, processes, disk.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from meshnode import __version__, observe
from meshnode.api.app import create_app
from meshnode.api.batches.work import DialectWork
from meshnode.api.context import ApiContext, NodeFacts
from meshnode.api.dialects import DIALECTS
from meshnode.api.server import Timing, serve
from meshnode.config import Settings
from meshnode.engine.machine import NO_ENGINE, look_around
from meshnode.engine.opening import open_engine
from meshnode.engine.pool import Pool, PoolLimits, open_pool
from meshnode.engine.process import worker_spawner
from meshnode.errors import MeshnodeError, ModelNotFound
from meshnode.gateway.admission import Admission
from meshnode.gateway.credentials import new_admin_token, read_key_file
from meshnode.gateway.feed import OpenDesk
from meshnode.gateway.keeping import Keeping, open_keeping
from meshnode.gateway.turnstile import Turnstile
from meshnode.identity import Identity, load_or_create
from meshnode.memory import ModelMemory
from meshnode.mesh.consent import at_start
from meshnode.mesh.peering import Peering, World, open_peering
from meshnode.mesh.several import SeveralDispatcher
from meshnode.models.catalogue import best_for, suggestion
from meshnode.models.fetch import reachable
from meshnode.models.library import Library, open_library
from meshnode.models.pull import PullProgress
from meshnode.net.doorkeeper import Doorkeeper
from meshnode.net.host import Host, open_host
from meshnode.net.kademlia import open_directory
from meshnode.net.psk import read_network_key
from meshnode.net.swarm import own_addresses
from meshnode.observe import Metrics
from meshnode.process import allow_connections, canary, spare_collector, watch_signals
from meshnode.ready import Ready, ReadyModel, Say, ready_model
from meshnode.storage.database import Database, open_threaded
from meshnode.storage.facts import Facts
from meshnode.storage.home import CONTROL_SOCKET, DATABASE_FILE, lock, prepare
from meshnode.storage.templates import Templates

INTERRUPTED = 130
"""Exit status of a node that was not given the time to drain, as shells count Ctrl-C: 128 + SIGINT."""
STOP_GRACE_S = 5.0
"""What clean-up may take after the drain's deadline, before everything is cancelled."""
HUB_PATIENCE_S = 1.5
"""How long a start waits to learn whether the hub can be reached."""


def run(settings: Settings, *, on_ready: Callable[[Ready], None], on_progress: Callable[[PullProgress], None]) -> int:
    """Run a node until SIGTERM, Ctrl-C, a closed terminal or ``meshnode stop``; gives the exit status.

    Raises OwnerError (perhaps in an exception group) when the node cannot start.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold prompts
    allow_connections(settings.api.max_connections)
    observe.configure_logging(settings.log, sys.stderr)
    return trio.run(_life, settings, Say(ready=on_ready, progress=on_progress))


async def _life(settings: Settings, say: Say) -> int:
    """Open the node, stay until asked to stop, then drain within the deadline; a second signal cancels.

    Gives 0 when it drained, 130 when it was cut short.
    """
    stop = trio.Event()
    status = INTERRUPTED
    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        await nursery.start(watch_signals, stop, scope)
        async with open_node(settings, stop, say):
            spare_collector()
            await stop.wait()
            scope.deadline = trio.current_time() + settings.stop_deadline_s + STOP_GRACE_S
        status = 0
        scope.cancel()
    return status


# --- the node, from the ground up -----------------------------------------------------------------


@asynccontextmanager
async def open_node(settings: Settings, stop: trio.Event, say: Say) -> AsyncIterator[None]:
    """A node whose models answer; whoever sets ``stop`` asks it to end. Raises OwnerError when it cannot start."""
    home = prepare(settings.home)
    with lock(home):
        identity = load_or_create(home, os.urandom)
        async with open_threaded(home / DATABASE_FILE) as database:
            facts = Facts(database, time.time)
            async with (
                _noted(facts, identity),
                _open_parts(settings, home, identity, database, facts, stop) as node,
                node.answering(),
            ):
                await node.start(say)
                yield


@asynccontextmanager
async def _noted(facts: Facts, identity: Identity) -> AsyncIterator[None]:
    """The node's life as facts: it started, it stopped."""
    started = trio.current_time()
    await facts.append("node_started", {"version": __version__, "peer_id": identity.peer_id})
    reason = "failed"
    try:
        yield
        reason = "asked"
    finally:
        with trio.CancelScope(shield=True):
            uptime = trio.current_time() - started
            await facts.note("node_stopped", {"reason": reason, "uptime_s": uptime})


def _open_library(settings: Settings, home: Path, facts: Facts) -> AbstractAsyncContextManager[Library]:
    """The models on disk, as the settings have it."""
    return open_library(
        home,
        environ=os.environ,
        user_home=Path.home(),
        now=time.time,
        python=sys.executable,
        default=settings.engine.model,
        aliases=settings.aliases,
        hub=settings.hub,
        note=facts.note,
    )


def _open_pool(
    settings: Settings, memory: ModelMemory, facts: Facts, metrics: Metrics
) -> AbstractAsyncContextManager[Pool]:
    """The models in memory, each with a worker of its own."""
    engine = settings.engine
    note, context = memory.noting(facts.note), memory.context_for
    return open_pool(
        partial(open_engine, engine, worker_spawner(os.environ, engine.sandbox), note, context=context),
        metrics=metrics,
        entropy=_random64,
        limits=PoolLimits(
            max_loaded=engine.max_loaded, max_queued=settings.api.max_queued, idle_unload_s=engine.idle_unload_s
        ),
        room=memory.room,
    )


@asynccontextmanager
async def _open_parts(
    settings: Settings, home: Path, identity: Identity, database: Database, facts: Facts, stop: trio.Event
) -> AsyncIterator[_Node]:
    """Library, engines, host and mesh, each of which closes when the block is left, last opened first."""
    metrics = Metrics()
    machine = await look_around(os.environ, cpu=settings.engine.cpu) if settings.engine.enabled else NO_ENGINE
    memory = ModelMemory(machine, settings.engine, machine.ram_free)
    await memory.recall(facts)
    psk = read_network_key(settings.net.private_network)
    door = Doorkeeper(own_addresses, trio.current_time)
    async with (
        _open_library(settings, home, facts) as library,
        _open_pool(settings, memory, facts, metrics) as pool,
        open_host(
            identity, settings.net.listen, psk=psk, announce=settings.net.announce, admits=door, blocked=door.blocked
        ) as host,
    ):
        world = World(
            settings=settings,
            identity=identity,
            psk=psk,
            transport=host,
            door=door,
            directory=partial(open_directory, host, settings.net.network),
            database=database,
            library=library,
            pool=pool,
            metrics=metrics,
            software=f"meshnode {__version__}",
            draining=stop,
            entropy=os.urandom,
            chance=random.random,
            wall_clock=time.time,
            aside=trio.to_thread.run_sync,
        )
        async with open_peering(world) as peering:
            yield _Node(world, home, library, host, peering, memory)


def _random64() -> int:
    return int.from_bytes(os.urandom(8), "big")


# --- the running node -------------------------------------------------------------------------------


class _Node:
    """The opened parts, and what is done with them."""

    def __init__(
        self, world: World, home: Path, library: Library, host: Host, peering: Peering, memory: ModelMemory
    ) -> None:
        self._settings = world.settings
        self._templates = Templates(world.database, world.wall_clock)
        self._home = home
        self._database = world.database
        self._stop = world.draining
        self._library = library
        self._pool = world.pool
        self._host = host
        self._peering = peering
        self._metrics = world.metrics
        self._machine = memory.machine
        self._memory = memory
        self._urls: tuple[str, ...] = ()

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """The HTTP servers are up; at the end, answers under way are closed before the connections are."""
        desk = self._desk()
        async with self._open_keeping(desk) as kept, trio.open_nursery() as nursery:
            context = self._context(desk, kept)
            serve_api = partial(
                serve,
                create_app(context),
                self._settings.api,
                control_socket=self._home / CONTROL_SOCKET,
                draining=self._stop,
                timing=Timing(graceful_s=self._settings.stop_deadline_s),
            )
            nursery.start_soon(canary, self._metrics)
            if kept.batches is not None:
                nursery.start_soon(kept.batches.run, DialectWork(context, DIALECTS), self._stop)
            async with trio.open_nursery() as server:
                bound = await server.start(serve_api)
                self._urls = bound.urls
                yield
                self._stop.set()
                await self._pool.drain()
                await self._peering.drain()
            nursery.cancel_scope.cancel()

    def _desk(self) -> OpenDesk:
        api = self._settings.api
        turnstile = Turnstile(Admission(max_generating=api.max_generating, max_queued=api.max_queued))
        return OpenDesk(turnstile, SeveralDispatcher(self._peering.dispatcher), self._library, self._stop)

    def _open_keeping(self, desk: OpenDesk) -> AbstractAsyncContextManager[Keeping]:
        return open_keeping(self._settings.store, self._home, self._database, desk, entropy=os.urandom, now=time.time)

    def _context(self, desk: OpenDesk, kept: Keeping) -> ApiContext:
        api = self._settings.api
        return ApiContext(
            settings=api,
            dispatcher=desk.dispatcher,
            library=self._library,
            pool=self._pool,
            mesh=self._peering,
            metrics=self._metrics,
            facts=self._facts(),
            turnstile=desk.turnstile,
            jobs=kept.jobs,
            history=kept.history,
            files=kept.files,
            batches=kept.batches,
            sessions=kept.sessions,
            admin_token=new_admin_token(self._home, os.urandom),
            entropy=os.urandom,
            clock=trio.current_time,
            wall_clock=time.time,
            stop=self._stop.set,
            draining=self._stop,
            keys=read_key_file(api.key_file),
            aliases=self._settings.aliases,
            client_only=self._settings.serve.client_only,
            outlook=self._memory.outlook,
            templates=self._templates,
        )

    def _facts(self) -> NodeFacts:
        return NodeFacts(
            version=__version__,
            peer_id=self._host.peer_id,
            home=self._home,
            started=trio.current_time(),
            addresses=lambda: self._host.addresses,
            api_urls=lambda: self._urls,
            devices=lambda: self._machine.probe.devices,
            backends=lambda: self._machine.probe.backends,
        )

    async def start(self, say: Say) -> None:
        """Load the first model, and say that the node is ready; gives up quietly when asked to stop meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_stop, nursery.cancel_scope)
            notes = [note for note in (self._machine.note,) if note]
            models: list[ReadyModel] = []
            if self._settings.engine.enabled:
                async with trio.open_nursery() as looking:
                    hub_notes: list[str] = []
                    looking.start_soon(self._look_at_hub, hub_notes)  # beside the load: it may wait for an answer
                    notes += await self._first_model(say, models)
                notes += hub_notes
            ready = Ready(
                api=self._urls,
                models=tuple(models),
                peer_id=self._host.peer_id,
                addresses=self._host.addresses,
                mesh=self._belonging(),
                notes=tuple(notes),
            )
            say.ready(ready)
            nursery.cancel_scope.cancel()

    def _belonging(self) -> str:
        """Which mesh this node is in, and what that means for its owner."""
        return at_start(
            joined=self._peering.joined,
            network=self._settings.net.network,
            peers=len(self._host.peers),
            client_only=self._settings.serve.client_only,
            served=[model.served for model in self._peering.served()],
        )

    async def _until_stop(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    async def _first_model(self, say: Say, models: list[ReadyModel]) -> list[str]:
        """Fetch the default model into an empty home, and load; what goes wrong is a note: the node runs on."""
        try:
            if self._settings.engine.model is None and not self._library.cards():
                async with self._library.pull("default") as pulling:
                    async for progress in pulling:
                        say.progress(progress)
            card = self._library.resolve(None)
            models.append(ready_model(card, await self._pool.load(card)))
        except ModelNotFound:
            raise
        except MeshnodeError as error:
            return [f"No model is loaded: {error}"]
        return []

    async def _look_at_hub(self, notes: list[str]) -> None:
        """What else could be run here, where it can be had."""
        best = best_for(self._machine.free_memory(), accelerated=self._machine.accelerated)
        there = False
        with trio.move_on_after(HUB_PATIENCE_S):
            there = best is not None and await reachable(self._settings.hub)
        notes.append(suggestion(best, self._settings.hub, reachable=there))
