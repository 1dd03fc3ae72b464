"""A worker's process, from the outside: what it says, when it ends, what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from meshnode.domain import Stopping
from meshnode.engine.pipe import Cancel, Gauge, Grant, Load, LoadFailed, LoadProgress, Ping, Pong, Step, Stop, Submit
from meshnode.events import EmbeddingResult, Failed, Finished, Started, TextDelta
from tests.kit.driven import Driven, asking
from tests.kit.requests import embedding
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import write_tiny_gguf
from tests.kit.worker_process import ENVIRONMENT, WorkerProcess, ended, probe, worker_process

FAKE = Load(path="", measure=False)
ENDLESS = Stopping(ignore_eos=True)


def tiny(tmp_path: Path) -> Load:
    """A load of a tiny random model."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    return Load(path=str(path), n_ctx=256, n_seq_max=2, threads=1, gpu_layers=0)


# --- serving ----------------------------------------------------------------------------------


def test_answers_as_the_loop_does_in_process() -> None:
    from meshnode.engine.fake import FakeBackend

    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Submit(number=1, request=asking("hello")), Submit(number=2, request=asking("other")))
        text = "".join(event.text for event in worker.events(1) if isinstance(event, TextDelta))
    assert text == Driven(FakeBackend()).ask(asking("hello"))


def test_loads_a_model_says_how_far_it_is_and_measures_it(tmp_path: Path) -> None:
    with worker_process() as worker:
        worker.send(tiny(tmp_path))
        first = worker.hear()
        assert isinstance(first, LoadProgress)
        while isinstance(ready := worker.hear(), LoadProgress):
            assert 0 <= ready.fraction <= 1
        assert not isinstance(ready, LoadFailed | Step | Pong)
        info = ready.info
        assert (info.n_ctx, info.n_seq_max, info.threads, info.gpu_layers) == (256, 2, 1, 0)
        assert info.decode_tps > 0
        assert info.prefill_tps > 0
        worker.send(Submit(number=1, request=asking("hello", stopping=Stopping(max_tokens=4, ignore_eos=True))))
        assert isinstance(list(worker.events(1))[-1], Finished)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_what_is_no_model_fails_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with worker_process(stderr=subprocess.DEVNULL) as worker:
        worker.send(Load(path=str(path)))
        message = worker.hear()
        assert isinstance(message, LoadFailed)
        assert message.code == "model_failed"
        assert len(message.reason) > len("llama.cpp cannot load the model: .")
        assert worker.wait() == 0


def test_pings_are_answered_idle_and_busy() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Ping(nonce=1))
        assert worker.hear() == Pong(nonce=1, gauge=Gauge(kv_total=4096))
        worker.send(Submit(number=1, request=asking("x", stopping=ENDLESS)), Ping(nonce=2))
        while not isinstance(pong := worker.hear(), Pong):
            assert isinstance(pong, Step)
        assert pong.nonce == 2


def test_cancel_frees_the_slot_and_says_so() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Submit(number=1, request=asking("x" * 50, stopping=ENDLESS), credit=9))
        while not (isinstance(message := worker.hear(), Step) and message.gauge.kv_used == 60):
            pass
        worker.send(Cancel(number=1))
        message = worker.hear()
        assert isinstance(message, Step)
        assert (message.events, message.gauge) == ((), Gauge(kv_total=4096, kv_idle=60))


def test_credit_is_waited_for_without_turning_over() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Submit(number=1, request=asking("x", stopping=ENDLESS), credit=8))
        while not (isinstance(message := worker.hear(), Step) and message.gauge.kv_used == 10):
            pass
        worker.send(Ping(nonce=1))
        assert isinstance(worker.hear(), Pong), "nothing more is computed"
        worker.send(Grant(number=1, tokens=1))
        message = worker.hear()
        assert isinstance(message, Step)
        assert message.decoded == 1


def test_a_bad_request_closes_only_itself() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Submit(number=1, request=asking("x" * 5000)))
        (failed,) = worker.events(1)
        assert isinstance(failed, Failed)
        assert failed.code == "context_length_exceeded"
        worker.send(Submit(number=2, request=asking("y")))
        assert isinstance(list(worker.events(2))[-1], Finished)


def test_a_parent_that_reads_late_loses_nothing() -> None:
    with worker_process("--fake") as worker:
        worker.load(Load(path="", n_seq_max=16, n_ctx=200_000, measure=False))
        stopping = Stopping(max_tokens=3000, ignore_eos=True)
        for number in range(1, 17):
            worker.send(Submit(number=number, request=asking(f"prompt {number}", stopping=stopping)))
        for number in range(17, 400):  # a full buffer in the other direction, while nobody reads this one
            worker.send(Submit(number=number, request=asking("z" * 500, stopping=stopping)), Cancel(number=number))
        seen, ended = dict.fromkeys(range(1, 17), 0), 0
        while ended < 16:
            message = worker.hear()
            assert isinstance(message, Step)
            for number, event in message.events:
                if number < 17 and isinstance(event, TextDelta):
                    seen[number] += len(event.token_ids)
                ended += number < 17 and isinstance(event, Finished)
        assert set(seen.values()) == {3000}


# --- ending -----------------------------------------------------------------------------------


def test_stop_ends_it_busy_or_not() -> None:
    for busy in (False, True):
        with worker_process("--fake") as worker:
            worker.load(FAKE)
            if busy:
                worker.send(Submit(number=1, request=asking("x", stopping=ENDLESS)))
                assert isinstance(next(worker.events(1)), Started)
            worker.send(Stop())
            assert worker.wait() == 0


def test_the_end_of_the_pipe_ends_it() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.send(Submit(number=1, request=asking("x", stopping=ENDLESS)))
        worker.sock.close()
        assert worker.wait() == 0


def test_nonsense_on_the_pipe_ends_it() -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        worker.sock.sendall(b"\xff" * 100)
        assert worker.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_group_are_the_parents_to_act_on(number: signal.Signals) -> None:
    with worker_process("--fake") as worker:
        worker.load(FAKE)
        os.kill(worker.popen.pid, number)
        worker.send(Submit(number=1, request=asking("x")))
        assert isinstance(list(worker.events(1))[-1], Finished)


ORPHAN = """
import os, socket, subprocess, sys
ours, theirs = socket.socketpair()
kept = os.dup(ours.fileno())
os.set_inheritable(kept, True)
fd = theirs.fileno()
command = [sys.executable, "-m", "meshnode.engine.worker", "--fake", str(fd)]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
worker = subprocess.Popen(command, pass_fds=[fd], **quiet)
sleeper = subprocess.Popen(["sleep", "300"], pass_fds=[kept], **quiet)  # keeps the pipe open after its parent
from meshnode.engine.pipe import *
from meshnode.wire.frames import pack
ours.sendall(pack(encode(Load(path="", measure=False)), limit=99999))
ours.recv(1)
print(worker.pid, sleeper.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_it_does_not_outlive_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    worker, sleeper = (int(pid) for pid in done.stdout.split())
    try:
        assert ended(worker)
    finally:
        os.kill(sleeper, signal.SIGKILL)


# --- a long prompt ----------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize("message", [Cancel(number=1), Stop()])
def test_long_prompt_is_broken_off_within_its_batch(message: Cancel | Stop) -> None:
    with worker_process() as worker:
        worker.load(Load(path=str(smollm2_path()), n_ctx=1024, n_seq_max=2, threads=1, gpu_layers=0, measure=False))
        worker.send(Submit(number=1, request=asking("word " * 900)), Ping(nonce=1))
        assert isinstance(worker.hear(), Pong)
        worker.send(message)  # the first batch of 512 tokens begins now, and takes far longer than this message
        if isinstance(message, Stop):
            assert worker.wait() == 0
        step = worker.hear()
        assert isinstance(step, Step)
        assert step.prefilled == 0
        if isinstance(message, Cancel):
            assert worker.hear() == Step(events=(), gauge=Gauge(kv_total=1024))


@pytest.mark.model
def test_a_large_batch_of_inputs_is_broken_off_for_a_prompt_and_computed_again() -> None:
    with worker_process() as worker:
        worker.load(Load(path=str(smollm2_path()), n_ctx=1024, n_seq_max=2, threads=1, gpu_layers=0, measure=False))
        worker.send(Submit(number=1, request=embedding(*["word " * 60] * 8)), Ping(nonce=1))
        assert isinstance(worker.hear(), Pong)
        worker.send(Submit(number=2, request=asking("Hi", stopping=Stopping(max_tokens=1))))
        events: list[tuple[int, type]] = []
        while (1, Finished) not in events or (2, Finished) not in events:
            step = worker.hear()
            assert isinstance(step, Step)
            events += [(number, type(event)) for number, event in step.events]
    assert events.index((2, Finished)) < events.index((1, EmbeddingResult))
    assert events.count((1, EmbeddingResult)) == 8


# --- what it gave up --------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_holds_no_file_but_its_pipe_and_leaves_no_core() -> None:
    secret = os.open("/", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with worker_process("--fake") as worker:
            worker.load(FAKE)
            check_confined(worker)
    finally:
        os.close(secret)


def check_confined(worker: WorkerProcess) -> None:
    process = Path(f"/proc/{worker.popen.pid}")
    held = {int(fd.name): os.readlink(fd) for fd in (process / "fd").iterdir()}
    others = {fd: to for fd, to in held.items() if fd > 2}
    assert len(others) == 1, others
    assert held[0] == held[1] == "/dev/null"
    limits = (process / "limits").read_text()
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's layers are Linux's")
def test_every_thread_of_a_loaded_worker_is_in_the_sandbox_and_it_says_so(tmp_path: Path) -> None:
    load = structs.replace(tiny(tmp_path), threads=3, threads_batch=3)
    with worker_process() as worker:
        info = worker.load(load).info
        threads = [task / "status" for task in Path(f"/proc/{worker.popen.pid}/task").iterdir()]
        status = [dict(line.split(":\t", 1) for line in task.read_text().splitlines()) for task in threads]
    assert {"no-new-privs", "rlimits", "pdeathsig"} <= set(info.sandbox)
    assert len(status) > 1, "the library started threads of its own"
    assert {each["NoNewPrivs"] for each in status} == {"1"}
    assert {each["Seccomp"] for each in status} == {"2" if "seccomp" in info.sandbox else "0"}
    missing = {line.partition(":")[0] for line in info.sandbox_missing}
    assert missing | {layer.partition("-")[0] for layer in info.sandbox} >= {"seccomp", "landlock"}


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's layers are Linux's")
def test_without_the_sandbox_it_keeps_its_rights_and_still_dies_with_its_parent(tmp_path: Path) -> None:
    with worker_process("--no-sandbox") as worker:
        info = worker.load(tiny(tmp_path)).info
        status = Path(f"/proc/{worker.popen.pid}/status").read_text()
    assert (info.sandbox, info.sandbox_missing) == (("pdeathsig",), ())
    assert "NoNewPrivs:\t0" in status
    assert "Seccomp:\t0" in status


def test_probe_prints_one_line_of_json() -> None:
    done = probe(["--probe"])
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert "CPU" in found["backends"]
    assert any(device["kind"] == "cpu" for device in found["devices"])
    assert {"name", "description", "kind", "memory_total", "memory_free"} == set(found["devices"][0])
    assert isinstance(found["gpu_offload"], bool)
    assert found["system_info"]


@pytest.mark.parametrize("arguments", [[], ["x"], ["--fake"], ["--no-sandbox"], ["--nonsense", "3"]])
def test_wrong_arguments_are_said(arguments: list[str]) -> None:
    done = probe(arguments)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_nothing_the_worker_imports_reaches_trio_libp2p_or_sqlite() -> None:
    code = (
        "import sys, meshnode.engine.worker, meshnode.engine.fake;"
        "print([m for m in ('trio', 'libp2p', 'sqlite3', 'asyncio', 'quart', 'structlog') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
