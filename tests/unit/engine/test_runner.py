"""The runner against worker processes of every kind of misbehaviour; each is a real process."""

from __future__ import annotations

import os
import socket
import time

import pytest
import trio

from meshnode.domain import GenerationRequest, ModelId, RequestId
from meshnode.engine.pipe import PIPE_LIMIT, Load
from meshnode.engine.process import Process
from meshnode.engine.runner import DEFAULT_LIMITS, WorkerEngine, WorkerLimits, open_worker, patience
from meshnode.errors import BodyTooLarge, ModelFailed
from meshnode.events import Event, Failed, Finished, Started, TextDelta
from tests.kit.workers import INFO, scripted

LOAD = Load(path="/nowhere")
QUICK = WorkerLimits(load_timeout_s=0.5, ping_s=0.1, hang_s=0.5, stop_s=0.3)
SECRET = "my diary of 1987"

ANSWERS = """
load()
while True:
    message = hear()
    if isinstance(message, Ping): say(Pong(message.nonce, Gauge(running=7)))
    if isinstance(message, Stop): break
    if isinstance(message, Submit):
        n = message.number
        say(Step(((n, Started(3)), (n, TextDelta("hello", 0, (1,))))))
        say(Step(((n, Finished(Usage(3, 1))),), Gauge(running=1)))
"""
SILENT = "load()\nwhile True: hear()\n"


def request(prompt: str = SECRET) -> GenerationRequest:
    """A request of no consequence."""
    return GenerationRequest(id=RequestId("r"), model=ModelId("m"), prompt=prompt)


def reaped(pid: int) -> bool:
    """Whether no child of that number is left, not even a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def ask(engine: WorkerEngine, prompt: str = SECRET) -> list[Event]:
    """All events of one request."""
    async with engine.generate(request(prompt)) as events:
        return [event async for event in events]


async def last_event(script: str, limits: WorkerLimits = QUICK) -> Failed:
    """The failure that closes a request to a scripted worker that loads."""
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(script), limits=limits._replace(load_timeout_s=20)) as engine:
            event = (await ask(engine))[-1]
            await engine.died()
    assert isinstance(event, Failed)
    return event


async def load_failure(script: str, limits: WorkerLimits = DEFAULT_LIMITS) -> str:
    """Why a scripted worker does not load."""
    with trio.fail_after(20), pytest.raises(ModelFailed) as caught:
        async with open_worker(LOAD, spawn=scripted(script), limits=limits):
            pass
    return caught.value.message


async def test_a_request_gets_its_events_in_order_and_its_end() -> None:
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(ANSWERS)) as engine:
            events = await ask(engine)
            assert engine.info == INFO
            assert engine.gauge.running == 1
    assert [type(event) for event in events] == [Started, TextDelta, Finished]


async def test_the_process_is_reaped_when_the_block_is_left() -> None:
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(ANSWERS)) as engine:
            pid = engine.pid
    assert reaped(pid)
    assert engine.dead


async def test_a_worker_that_will_not_stop_is_made_to() -> None:
    script = "load()\nwhile True: time.sleep(1)"
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(script), limits=WorkerLimits(stop_s=0.2)) as engine:
            pid = engine.pid
    assert reaped(pid)


async def test_leaving_while_cancelled_reaps_the_process_too() -> None:
    pids = []
    with trio.fail_after(20), trio.CancelScope() as scope:
        async with open_worker(LOAD, spawn=scripted(SILENT), limits=QUICK._replace(load_timeout_s=20)) as engine:
            pids.append(engine.pid)
            scope.cancel()
            await ask(engine)
    assert reaped(pids[0])


async def test_progress_is_heard_while_loading() -> None:
    heard: list[float] = []
    script = "hear(); [say(LoadProgress(f)) for f in (0.25, 0.5, float('nan'), 7.0)]; say(Ready(INFO)); hear()"
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(script), progress=heard.append):
            pass
    assert heard == [0.25, 0.5, 0.0, 1.0]


async def test_the_reason_of_a_model_that_does_not_load_is_told() -> None:
    assert await load_failure("hear(); say(LoadFailed('this is no GGUF')); hear()") == "this is no GGUF"


async def test_a_process_that_exits_at_once_is_a_failed_load() -> None:
    assert "exited with status 3" in await load_failure("sys.exit(3)")


async def test_a_library_that_aborts_on_a_file_leaves_its_last_words() -> None:
    script = "hear(); print('GGML_ASSERT(n_dims <= 4) failed', file=sys.stderr, flush=True); os.abort()"
    message = await load_failure(script)
    assert "SIGABRT" in message
    assert "GGML_ASSERT(n_dims <= 4) failed" in message


async def test_a_load_that_never_ends_is_ended() -> None:
    assert "within 0.5 s" in await load_failure("hear(); time.sleep(60)", QUICK)


async def test_a_program_that_cannot_be_started_is_a_failed_load() -> None:
    def spawn(_: socket.socket) -> Process:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ModelFailed, match="No such file"):
        async with open_worker(LOAD, spawn=spawn):
            pass


@pytest.mark.parametrize(
    "garbage",
    [
        "sock.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n')",
        "sock.sendall(pack(b'\\xc1not msgpack', limit=100))",
        "sock.sendall(pack(msgspec.msgpack.encode({'type': 'Surprise'}), limit=100))",
        "say(Step(()))",
        "say(Load(path='x'))",
    ],
)
async def test_garbage_while_loading_is_a_failed_load(garbage: str) -> None:
    assert "no message of the pipe" in await load_failure(f"hear(); {garbage}; time.sleep(60)")


async def test_garbage_in_the_middle_of_an_answer_closes_it() -> None:
    failed = await last_event("load(); hear(); sock.sendall(b'\\0\\0\\0\\5hello'); time.sleep(60)")
    assert failed.code == "worker_died"
    assert failed.retry_after_s


async def test_a_worker_that_is_killed_fails_every_caller_within_a_second() -> None:
    failures: list[Event] = []
    asked = trio.Event()

    async def caller(engine: WorkerEngine) -> None:
        async with engine.generate(request()) as events:
            asked.set()
            failures.extend([event async for event in events])

    with trio.fail_after(30):
        async with open_worker(LOAD, spawn=scripted(SILENT)) as engine:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(caller, engine)
                await asked.wait()
                killed = time.monotonic()
                os.kill(engine.pid, 9)
            took = time.monotonic() - killed
            death = await engine.died()
            late = await ask(engine)
    assert [type(event) for event in failures] == [Failed] * 20
    assert all(isinstance(event, Failed) and event.code == "worker_died" for event in failures + late)
    assert "SIGKILL" in death.reason
    assert took < 5  # measured: 0.01 s; a busy machine may be late, a missing detection never comes


async def test_a_worker_that_closes_its_pipe_and_lives_is_ended() -> None:
    failed = await last_event("load(); hear(); sock.close(); time.sleep(60)")
    assert "closed its pipe" in failed.message


async def test_a_busy_worker_that_stands_still_is_ended() -> None:
    failed = await last_event("load(); hear(); os.kill(os.getpid(), signal.SIGSTOP)")
    assert "no sign" in failed.message


async def test_a_busy_worker_that_answers_pings_is_left_alone() -> None:
    script = """
load(); number, pings = hear().number, 0
while pings < 25:
    say(Pong(hear().nonce)); pings += 1
say(Step(((number, Finished(Usage())),)))
"""
    limits = QUICK._replace(load_timeout_s=20, hang_s=2)
    with trio.fail_after(30):
        async with open_worker(LOAD, spawn=scripted(script), limits=limits) as engine:
            assert isinstance((await ask(engine))[-1], Finished)


async def test_a_worker_that_ignores_its_credit_is_ended_before_memory_is_full() -> None:
    script = """
load(); n = hear().number
say(Step(((n, Started(1)),)))
while True: say(Step(((n, TextDelta("x", 0, (1,))),) * 100))
"""
    with trio.fail_after(20):
        async with (
            open_worker(LOAD, spawn=scripted(script), limits=WorkerLimits(window=64)) as engine,
            engine.generate(request()) as events,
        ):
            await engine.died()
            got = [event async for event in events]
    assert len(got) < 400
    assert isinstance(got[-1], Failed)


async def test_a_request_over_the_pipes_limit_is_refused_and_harms_nobody() -> None:
    with trio.fail_after(60):
        async with open_worker(LOAD, spawn=scripted(ANSWERS)) as engine:
            with pytest.raises(BodyTooLarge):
                await ask(engine, "x" * (PIPE_LIMIT + 1))
            assert isinstance((await ask(engine))[-1], Finished)


async def test_what_a_worker_says_of_a_request_when_it_dies_goes_nowhere() -> None:
    script = """
load(); message = hear()
print("ValueError:", message.request.prompt, file=sys.stderr)
print("GGML_ASSERT(logits != nullptr) failed", file=sys.stderr, flush=True)
os.abort()
"""
    with trio.fail_after(20):
        async with open_worker(LOAD, spawn=scripted(script)) as engine:
            events = await ask(engine)
            death = await engine.died()
    assert "GGML_ASSERT(logits != nullptr) failed" in death.last_words
    assert SECRET not in repr(events) + repr(death)


def test_the_hang_limit_allows_a_slow_machine_its_longest_step() -> None:
    assert patience(DEFAULT_LIMITS, 0.0) == 30
    assert patience(DEFAULT_LIMITS, 1000.0) == 30
    assert patience(DEFAULT_LIMITS, 4.0) == 512
