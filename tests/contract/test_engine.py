"""One suite for every engine: inline, a worker process on the fake backend, a worker process on a tiny real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import trio

from meshnode.domain import FinishReason, GenerationRequest, Message, Role, Sampling, ServiceClass, TextPart
from meshnode.engine.delivery import Delivery
from meshnode.engine.fake import FakeBackend
from meshnode.engine.gate import Gate
from meshnode.engine.inline import open_inline
from meshnode.engine.pipe import Load
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import Engine, WorkerEngine, WorkerLimits, open_worker
from meshnode.errors import ModelFailed
from meshnode.events import ChoiceFinished, Counted, Event, Failed, Finished, Prefilling, Queued, Started, TextDelta
from tests.kit.engines import constant_entropy
from tests.kit.requests import counting, endless
from tests.kit.tinygguf import write_tiny_gguf

WINDOW = 64
SLOTS = 8
LOAD = Load(path="", n_ctx=8192, n_seq_max=SLOTS, threads=1, threads_batch=1, gpu_layers=0, measure=False)
Opener = Callable[[], AbstractAsyncContextManager[Engine]]


@asynccontextmanager
async def inline() -> AsyncIterator[Engine]:
    """The loop in this process."""
    backend = FakeBackend(n_ctx=8192, n_seq_max=SLOTS)
    now = datetime(2025, 1, 1, tzinfo=UTC)
    async with open_inline(backend, entropy=constant_entropy, now=lambda: now, step_s=0, window=WINDOW) as engine:
        yield engine


def worker(load: Load, *, fake: bool) -> AbstractAsyncContextManager[WorkerEngine]:
    """The loop in a process of its own."""
    return open_worker(load, spawn=worker_spawner(os.environ, fake=fake), limits=WorkerLimits(window=WINDOW))


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of half a megabyte with random weights, which speaks until it is stopped."""
    return str(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", ctx=8192))


@pytest.fixture(params=["inline", "fake worker", "llama worker"])
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens an engine of each kind."""
    if request.param == "inline":
        return inline
    if request.param == "fake worker":
        return lambda: worker(LOAD, fake=True)
    path: str = request.getfixturevalue("tiny_model")
    return lambda: worker(msgspec.structs.replace(LOAD, path=path), fake=False)


@pytest.fixture
async def engine(opener: Opener) -> AsyncIterator[Engine]:
    """A loaded engine."""
    async with opener() as engine:
        yield engine


async def ask(engine: Engine, request: GenerationRequest) -> list[Event]:
    """All events of one request."""
    async with engine.generate(request) as events:
        return [event async for event in events]


def text_of(events: list[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def tokens_of(events: Iterable[Event]) -> int:
    """How many tokens were computed for them."""
    return sum(len(event.token_ids) for event in events if isinstance(event, TextDelta))


async def test_an_answer_streams_in_the_order_of_the_pipe(engine: Engine) -> None:
    with trio.fail_after(30):
        events = await ask(engine, endless("hello", tokens=20))
    kinds = [type(event) for event in events if not isinstance(event, Queued)]
    assert kinds[0] is Started
    assert kinds[-2:] == [ChoiceFinished, Finished]
    assert set(kinds[1:-2]) == {TextDelta}
    assert events[-2] == ChoiceFinished(FinishReason.LENGTH)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.completion_tokens == 20
    assert text_of(events)


async def test_messages_are_rendered_beside_the_model(engine: Engine) -> None:
    messages = (Message(role=Role.USER, parts=(TextPart("hello"),)),)
    with trio.fail_after(30):
        bare = await ask(engine, endless("hello", tokens=5))
        chat = await ask(engine, endless("", tokens=5, prompt=None, messages=messages))
    started = [next(event for event in events if isinstance(event, Started)) for events in (bare, chat)]
    assert started[1].prompt_tokens > started[0].prompt_tokens
    assert isinstance(chat[-1], Finished)


async def test_a_prompt_is_counted_as_it_would_be_read(engine: Engine) -> None:
    messages = (Message(role=Role.USER, parts=(TextPart("hello"),)),)
    with trio.fail_after(30):
        chat = await ask(engine, endless("", tokens=1, prompt=None, messages=messages))
        told = await ask(engine, counting(messages=messages))
        started, counted, finished = told
        assert isinstance(counted, Counted)
        back = await ask(engine, counting(counted.token_ids, echo=True))
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    asked = next(event for event in chat if isinstance(event, Started))
    assert started.prompt_tokens == counted.tokens == finished.usage.prompt_tokens == asked.prompt_tokens
    assert "hello" in counted.text
    assert isinstance(read := back[1], Counted)
    assert read.text.endswith(counted.text), "read back with the special tokens that the model wants"
    assert b"".join(read.pieces).decode() == read.text
    assert (read.tokens, read.token_ids) == (counted.tokens, counted.token_ids)


async def test_counting_goes_on_while_every_slot_is_taken_and_takes_none(engine: Engine) -> None:
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            for _ in range(SLOTS):
                await until_it_speaks(await stack.enter_async_context(engine.generate(endless())))
            counted = await ask(engine, counting("hello", add_special=False))
            whole = await ask(engine, counting("z" * 9000))
    assert [type(event) for event in counted] == [Started, Counted, Finished]
    assert isinstance(whole[-1], Finished), "what does not fit into the context has a length all the same"
    assert isinstance(whole[0], Started)
    assert isinstance(counted[0], Started)
    assert 0 < counted[0].prompt_tokens < whole[0].prompt_tokens


async def test_a_seed_repeats_an_answer_whatever_else_is_running(engine: Engine) -> None:
    request = endless("once upon a time", tokens=24, sampling=Sampling(temperature=1.0, seed=7))
    again = [endless("once upon a time", tokens=24, sampling=Sampling(temperature=1.0, seed=7)) for _ in range(3)]
    texts: list[str] = []

    async def one(request: GenerationRequest) -> None:
        texts.append(text_of(await ask(engine, request)))

    with trio.fail_after(30):
        await one(request)
        async with trio.open_nursery() as nursery:
            for other in again:
                nursery.start_soon(one, other)
    assert len(set(texts)) == 1
    assert texts[0]


async def test_a_prompt_longer_than_the_window_is_computed_whole(engine: Engine) -> None:
    with trio.fail_after(60):
        events = await ask(engine, endless("never " * 100, tokens=3))
    started = next(event for event in events if isinstance(event, Started))
    assert started.prompt_tokens > 4 * WINDOW
    assert isinstance(events[-1], Finished)


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(engine: Engine) -> None:
    with trio.fail_after(30):
        events = await ask(engine, endless("z" * 9000))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "context_length_exceeded"
    assert str(engine.info.n_ctx) in failed.message


async def test_leaving_frees_the_slot_for_the_next(engine: Engine) -> None:
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            for _ in range(SLOTS):
                events = await stack.enter_async_context(engine.generate(endless()))
                await until_it_speaks(events)
        events_after = await ask(engine, endless(tokens=2))
    assert isinstance(events_after[0], Started)
    assert engine.gauge.running == 0
    assert engine.gauge.kv_used == 0


async def until_it_speaks(events: AsyncIterator[Event]) -> None:
    """Read up to the first text."""
    async for event in events:
        if isinstance(event, TextDelta):
            return


async def test_a_reader_that_stops_stops_its_own_answer_and_nobody_elses(engine: Engine) -> None:
    with trio.fail_after(60):
        async with engine.generate(endless("slow")) as slow:
            await until_it_speaks(slow)
            quick = await ask(engine, endless("quick", tokens=6 * WINDOW))
            assert tokens_of(quick) == 6 * WINDOW
            assert isinstance(slow, Delivery)
            assert 0 < slow.held <= WINDOW
            resumed = [await anext(slow) for _ in range(3 * WINDOW)]
    assert tokens_of(resumed) >= 3 * WINDOW


async def test_fifty_at_once_are_all_answered(engine: Engine) -> None:
    ends: list[Event] = []

    async def one(number: int) -> None:
        ends.append((await ask(engine, endless(f"request {number}", tokens=1 + number % 7)))[-1])

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
    assert [type(event) for event in ends] == [Finished] * 50
    assert engine.gauge.running == 0


async def test_callers_that_leave_at_any_moment_harm_nobody(engine: Engine) -> None:
    async def leaver(events_to_read: int) -> None:
        async with engine.generate(endless(f"leaver {events_to_read}")) as events:
            for _ in range(events_to_read):
                await anext(events)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(leaver, number % 9)
            stayed = await ask(engine, endless("stay", tokens=40))
        alone = await ask(engine, endless("stay", tokens=40))
    assert tokens_of(stayed) == tokens_of(alone) == 40
    assert engine.gauge.kv_used == 0


async def test_all_answers_can_be_ended_with_a_reason(engine: Engine) -> None:
    draining = Failed("draining", "the node is stopping.")
    with trio.fail_after(30):
        async with engine.generate(endless()) as events:
            await until_it_speaks(events)
            engine.fail_all(draining)
            rest = [event async for event in events]
        assert rest[-1] == draining
        assert isinstance((await ask(engine, endless(tokens=1)))[-1], Finished)


# --- gated: what is not paid for is not computed --------------------------------------------------


async def cells_after_another(engine: Engine) -> int:
    """Cells still in use when a whole answer, of many steps, has come and gone beside what stands still."""
    assert tokens_of(await ask(engine, endless("beside", tokens=2 * WINDOW))) == 2 * WINDOW
    return engine.gauge.kv_used


async def test_a_gated_prompt_is_computed_as_far_as_it_is_paid(engine: Engine) -> None:
    gate = Gate(prefill=100, decode=10)
    with trio.fail_after(60):
        async with engine.generate(endless("never " * 100), gate) as events:
            assert isinstance(events, Delivery)
            while not (isinstance(event := await anext(events), Prefilling) and event.done == 100):
                assert not isinstance(event, TextDelta)
            assert await cells_after_another(engine) == 100
            gate.allow(prefill=event.total - 1)
            assert await cells_after_another(engine) == event.total - 1
            gate.allow(prefill=event.total)
            assert await cells_after_another(engine) == event.total + 10
            said = [await anext(events) for _ in range(events.held)]
            assert 0 <= 11 - tokens_of(said) < 16, "one token more than positions, the last of them perhaps unsaid"
        assert await cells_after_another(engine) == 0


async def test_a_gated_answer_goes_as_far_as_it_is_paid_and_as_its_reader_reads(engine: Engine) -> None:
    gate = Gate(prefill=1000, decode=40)
    with trio.fail_after(60):
        async with engine.generate(endless("hello"), gate) as events:
            assert isinstance(events, Delivery)
            started = await anext(events)
            while not isinstance(started, Started):
                started = await anext(events)
            prompt = started.prompt_tokens
            assert await cells_after_another(engine) == prompt + 40
            gate.allow(decode=1000)
            assert await cells_after_another(engine) == prompt + WINDOW, "nobody has read anything"
            said = [await anext(events) for _ in range(events.held)]
            gate.allow(decode=90)
            assert tokens_of(said) <= WINDOW + 1
            assert prompt + WINDOW < await cells_after_another(engine) <= prompt + WINDOW + tokens_of(said)


async def test_leaving_what_stands_still_unpaid_frees_its_slot(engine: Engine) -> None:
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            for _ in range(SLOTS):
                events = await stack.enter_async_context(engine.generate(endless("x" * 50), Gate(prefill=9, decode=0)))
                while not isinstance(await anext(events), Prefilling):
                    pass
            await stack.enter_async_context(engine.generate(endless(), Gate(prefill=0, decode=0)))
        events_after = await ask(engine, endless(tokens=2))
    assert isinstance(events_after[0], Started)
    assert (engine.gauge.running, engine.gauge.waiting, engine.gauge.kv_used) == (0, 0, 0)


async def test_strangers_yield_to_the_owner_and_go_on_after(engine: Engine) -> None:
    ends: list[Event] = []
    talking: list[int] = []

    async def stranger(number: int) -> None:
        request = endless(f"stranger {number}", tokens=600, service_class=ServiceClass.NEWCOMER)
        async with engine.generate(request, Gate(prefill=1000, decode=1000)) as events:
            await until_it_speaks(events)
            talking.append(number)
            if len(talking) == SLOTS:
                nursery.start_soon(owner)
            ends.extend([event async for event in events][-1:])

    async def owner() -> None:
        ends.extend((await ask(engine, endless("mine", tokens=3)))[-1:])

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(SLOTS):
                nursery.start_soon(stranger, number)
    assert [event.usage.completion_tokens for event in ends if isinstance(event, Finished)] == [3, *[600] * SLOTS]


# --- what only a process can do -----------------------------------------------------------------


async def test_a_worker_killed_in_mid_stream_gives_each_caller_a_typed_error() -> None:
    with trio.fail_after(30):
        async with worker(LOAD, fake=True) as engine, engine.generate(endless()) as events:
            await until_it_speaks(events)
            os.kill(engine.pid, signal.SIGKILL)
            rest = [event async for event in events]
    failed = rest[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "worker_died"
    assert "SIGKILL" in failed.message


async def test_a_stopped_worker_is_found_out() -> None:
    limits = WorkerLimits(ping_s=0.1, hang_s=0.5)
    with trio.fail_after(30):
        async with (
            open_worker(LOAD, spawn=worker_spawner(os.environ, fake=True), limits=limits) as engine,
            engine.generate(endless()) as events,
        ):
            await until_it_speaks(events)
            os.kill(engine.pid, signal.SIGSTOP)
            rest = [event async for event in events]
    assert isinstance(rest[-1], Failed)
    assert "no sign" in rest[-1].message


async def test_a_file_that_is_no_model_is_a_failed_load_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with trio.fail_after(30), pytest.raises(ModelFailed) as caught:
        async with worker(msgspec.structs.replace(LOAD, path=str(path)), fake=False):
            pass
    assert caught.value.message


PARENT = """
import os, sys, trio
from meshnode.engine.pipe import Load
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import open_worker
async def main():
    async with open_worker(Load(path=""), spawn=worker_spawner(os.environ, fake=True)) as engine:
        print(engine.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


async def test_a_worker_dies_with_its_daemon() -> None:
    process = await trio.lowlevel.open_process([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with trio.fail_after(30):
        pid = int(await process.stdout.receive_some(100))
        watched = os.pidfd_open(pid)
        process.kill()
        await process.wait()
        await trio.lowlevel.wait_readable(watched)
    os.close(watched)
    await process.stdout.aclose()
