"""Workers that stand still, crash again and again, or meet a file made to break them: what their callers are told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshnode.domain import ModelCard
from meshnode.engine.back_off import BackOff
from meshnode.engine.pipe import Load
from meshnode.engine.pool import PoolLimits, open_pool
from meshnode.engine.process import Process, Spawn, worker_spawner
from meshnode.engine.runner import Engine, WorkerEngine, WorkerLimits, open_worker
from meshnode.errors import MeshnodeError, ModelFailed
from meshnode.events import CLOSING, Event, Failed, Finished, TextDelta
from meshnode.mesh.local import LocalDispatcher
from meshnode.observe import Metrics
from tests.kit.api import CARD, MemoryLibrary, running_api
from tests.kit.driven import asking, chatting
from tests.kit.engines import constant_entropy
from tests.kit.poisoned import poisoned_ggufs
from tests.kit.requests import endless
from tests.kit.tinygguf import hostile_ggufs, write_tiny_gguf
from tests.kit.worker_process import ENVIRONMENT, ended
from tests.kit.workers import scripted

QUICK = WorkerLimits(ping_s=0.1, hang_s=1.0, stop_s=0.3)
FAKE = Load(path="", n_ctx=4096, n_seq_max=4, measure=False)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a kernel other than Linux does not have")


def fakes() -> Spawn:
    """Real workers on the deterministic backend."""
    return worker_spawner(os.environ, fake=True)


async def last(engine: Engine) -> Event:
    """The end of an answer without one."""
    async with engine.generate(endless()) as events:
        return [event async for event in events][-1]


# --- standing still -------------------------------------------------------------------------------


async def test_a_worker_stopped_in_mid_answer_fails_its_callers_by_name_and_no_other_models() -> None:
    ends: list[Event] = []

    async def caller(engine: WorkerEngine, talking: trio.Event) -> None:
        async with engine.generate(endless()) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    talking.set()
                if isinstance(event, CLOSING):
                    ends.append(event)

    with trio.fail_after(60):
        async with (
            open_worker(FAKE, spawn=fakes(), limits=QUICK) as stopped,
            open_worker(FAKE, spawn=fakes(), limits=QUICK) as neighbour,
        ):
            async with trio.open_nursery() as nursery:
                for talking in (events := [trio.Event() for _ in range(3)]):
                    nursery.start_soon(caller, stopped, talking)
                for talking in events:
                    await talking.wait()
                os.kill(stopped.pid, signal.SIGSTOP)
            assert stopped.dead
            async with neighbour.generate(asking("x")) as answer:
                assert isinstance([event async for event in answer][-1], Finished)
    assert [type(event) for event in ends] == [Failed] * 3
    for event in ends:
        assert isinstance(event, Failed)
        assert event.code == "worker_died"
        assert "gave no sign" in event.message


@needs_linux
async def test_a_load_that_hangs_in_the_library_is_ended_in_time(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "model.gguf")  # nobody ever writes to it: the library waits in open(2)
    spawned: list[int] = []

    def spawn(theirs: socket.socket) -> Process:
        process = worker_spawner(os.environ)(theirs)
        spawned.append(process.pid)
        return process

    limits = QUICK._replace(load_timeout_s=2.0)
    with trio.fail_after(30), pytest.raises(ModelFailed, match=r"did not load its model within 2 s"):
        async with open_worker(Load(path=str(path)), spawn=spawn, limits=limits):
            pass
    assert ended(spawned[0])


async def test_a_worker_stopped_while_it_loads_is_ended_in_time() -> None:
    script = "hear(); say(LoadProgress(0.5)); os.kill(os.getpid(), signal.SIGSTOP)"
    heard: list[float] = []
    limits = QUICK._replace(load_timeout_s=1.0)
    with trio.fail_after(30), pytest.raises(ModelFailed, match=r"did not load its model within 1 s"):
        async with open_worker(FAKE, spawn=scripted(script), limits=limits, progress=heard.append):
            pass
    assert heard in ([0.5], [])  # a slow machine may not have come so far


# --- crashing -------------------------------------------------------------------------------------

CRASHES = """
load(); hear()
print("GGML_ASSERT(logits != nullptr) failed", file=sys.stderr, flush=True)
os.abort()
"""


async def test_after_three_crashes_the_api_says_what_the_worker_said_last() -> None:
    @asynccontextmanager
    async def crashing(_: ModelCard, progress: Callable[[float], None]) -> AsyncIterator[Engine]:
        async with open_worker(FAKE, spawn=scripted(CRASHES), progress=progress) as engine:
            yield engine

    library, metrics, limits = MemoryLibrary(CARD), Metrics(), PoolLimits(back_off=BackOff(0.01, 0.01))
    with trio.fail_after(60):
        async with open_pool(crashing, metrics=metrics, entropy=constant_entropy, limits=limits) as pool:
            dispatcher = LocalDispatcher(library, pool, metrics, node="12D3KooWNode")
            async with (
                running_api(dispatcher, library=library, pool=pool, metrics=metrics) as api,
                api.client() as client,
            ):
                codes = []
                while pool.state(CARD.id).state != "failed":
                    answer = await client.post("/v1/completions", json={"prompt": "x"})
                    codes.append(answer.json()["error"]["code"])
                refused = (await client.post("/v1/completions", json={"prompt": "x"})).json()["error"]
                (model,) = (await client.get("/api/status")).json()["models"]
    assert codes == ["worker_died", "model_failed"], "each was tried twice, the second time in vain"
    assert refused["code"] == "model_failed"
    assert model["state"] == "failed"
    for said in (model["reason"], refused["message"]):
        assert "3 times in a row" in said
        assert "SIGABRT" in said
        assert "GGML_ASSERT(logits != nullptr) failed" in said


# --- files made to break it -----------------------------------------------------------------------


async def fate(path: Path) -> str:
    """What comes of a file in a real worker: why it did not load, or how an answer of it ended."""
    load = Load(path=str(path), n_ctx=256, n_seq_max=2, threads=1, gpu_layers=0, measure=False)
    try:
        async with (
            open_worker(load, spawn=worker_spawner(os.environ), limits=WorkerLimits(load_timeout_s=60)) as engine,
            engine.generate(chatting("hello")) as events,
        ):
            end = [event async for event in events][-1]
    except MeshnodeError as error:
        return f"failed: {error.message}"
    return f"failed: {end.message}" if isinstance(end, Failed) else "answered"


@pytest.mark.slow
async def test_no_file_harms_the_node_or_the_model_beside_it(tmp_path: Path) -> None:
    files = hostile_ggufs(tmp_path) | poisoned_ggufs(tmp_path)
    load = Load(path=str(write_tiny_gguf(tmp_path / "sound")), n_ctx=256, n_seq_max=2, threads=1, measure=False)
    fates: dict[str, str] = {}

    async def meet(names: list[str], neighbour: WorkerEngine) -> None:
        for name in names:
            fates[name] = await fate(files[name])
            async with neighbour.generate(chatting("hello")) as events:
                assert isinstance([event async for event in events][-1], Finished), name

    with trio.fail_after(400):
        async with open_worker(load, spawn=worker_spawner(os.environ)) as neighbour, trio.open_nursery() as nursery:
            for part in range(3):
                nursery.start_soon(meet, list(files)[part::3], neighbour)
    answered = {name for name, how in fates.items() if how == "answered"}
    assert fates.keys() == files.keys()
    assert not answered & hostile_ggufs(tmp_path).keys()
    assert all(len(how) > len("failed: the engine worker .") for name, how in fates.items() if name not in answered)
    assert {"weights-nan", "tensors-overlap", "endless-template"}.isdisjoint(answered)


# --- the parent dies ------------------------------------------------------------------------------

ORPHAN = """
import os, socket, subprocess, sys
from meshnode.engine.pipe import *
from meshnode.wire.frames import FrameReader, pack
from tests.kit.requests import endless
fifo, (ours, theirs) = sys.argv[1], socket.socketpair()
fd = theirs.fileno()
options = ["--fake"] * (not fifo)
command = [sys.executable, "-m", "meshnode.engine.worker", *options, str(fd)]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
worker = subprocess.Popen(command, pass_fds=[fd], **quiet)
ours.sendall(pack(encode(Load(path=fifo, n_ctx=4096, measure=False)), limit=99999))
kept = [os.dup(ours.fileno())]
if fifo:
    kept.append(os.open(fifo, os.O_WRONLY))  # returns once the worker has opened it: from then on it reads, for ever
else:
    ours.sendall(pack(encode(Submit(number=1, request=endless())), limit=99999))
    reader, steps = FrameReader(limit=2**26), 0
    while steps < 3:
        steps += sum(isinstance(decode_from_worker(frame), Step) for frame in reader.feed(ours.recv(65536)))
sleeper = subprocess.Popen(["sleep", "300"], pass_fds=kept, **quiet)  # keeps the pipe open after its parent
print(worker.pid, sleeper.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@needs_linux
@pytest.mark.parametrize("moment", ["while it loads", "while it answers"])
def test_a_worker_dies_with_its_parent(moment: str, tmp_path: Path) -> None:
    fifo = tmp_path / "model.gguf"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", ORPHAN, str(fifo) if moment == "while it loads" else ""]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr
    worker, sleeper = (int(pid) for pid in done.stdout.split())
    try:
        assert ended(worker)
    finally:
        os.kill(sleeper, signal.SIGKILL)
