"""Real processes of a mesh killed in the middle of things: what clients are told, and what is still so afterwards."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx2
import pytest
import trio

from tests.kit.meshes import HELLO, accounts, apart, awaited, broken, chat, listed, reconciled, streamed, until
from tests.kit.node import Node, running_node
from tests.kit.tinygguf import write_tiny_gguf

pytestmark = pytest.mark.slow

GONE_S = 15.0
SEEN_S = 5.0
HANG_S = 10.0
LOST = {"peer_unreachable", "stream_reset", "peer_failed"}


class Stage:
    """Homes and flags that outlive the processes, so that each node can be started again where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model = write_tiny_gguf(folder / "tiny-q8_0.gguf")
        self._flags = apart()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    def provider(self, *flags: str) -> AbstractContextManager[Node]:
        """The one that serves, always at the same address."""
        where = f"/ip4/127.0.0.1/tcp/{self._port}"
        return running_node(
            self._folder / "provider", *self._flags, "--model", str(self._model), "--listen", where, *flags
        )

    def consumer(self, *flags: str, name: str = "consumer") -> AbstractContextManager[Node]:
        """One that only asks."""
        return running_node(self._folder / name, *self._flags, "--client-only", *flags)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def pair(stage: Stage) -> Iterator[tuple[Node, Node]]:
    """A provider, and a consumer that sees it."""
    with ExitStack() as stack:
        provider = stack.enter_context(stage.provider("--open"))
        consumer = stack.enter_context(stage.consumer("--join", provider.address))
        until(lambda: bool(listed(consumer)), SEEN_S)
        yield provider, consumer


# --- the provider dies ------------------------------------------------------------------------------


async def test_a_provider_killed_in_mid_answer_is_a_typed_error_and_is_listed_no_more(pair: tuple[Node, Node]) -> None:
    provider, consumer = pair
    async with streamed(consumer) as lines:
        provider.process.kill()
        killed = time.monotonic()
        error = await broken(lines)
    assert error["code"] in LOST
    assert time.monotonic() - killed < SEEN_S
    refused = await trio.to_thread.run_sync(chat, consumer)
    assert refused.status_code in (404, 503)
    assert refused.status_code == 404 or int(refused.headers["retry-after"]) >= 1
    await awaited(lambda: not listed(consumer), GONE_S - (time.monotonic() - killed))
    peers = {peer["peer"]: peer for peer in consumer.told("peers")["peers"]}
    assert not peers.get(provider.peer, {"connected": False})["connected"]


async def test_a_provider_that_hangs_in_mid_answer_is_an_error_in_bounded_time(pair: tuple[Node, Node]) -> None:
    provider, consumer = pair
    async with streamed(consumer) as lines:
        os.kill(provider.process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            error = await broken(lines)
            assert error["code"] in LOST
            assert time.monotonic() - stopped < HANG_S + SEEN_S
            await awaited(lambda: not listed(consumer), GONE_S)
        finally:
            os.kill(provider.process.pid, signal.SIGCONT)
    await awaited(lambda: bool(listed(consumer)), 30)
    await awaited(lambda: chat(consumer).status_code == 200, 30)
    await awaited(lambda: reconciled(consumer, [provider]), 20)


# --- power cuts, and what is remembered -------------------------------------------------------------


async def test_books_agree_after_a_power_cut_on_both_sides(stage: Stage) -> None:
    with ExitStack() as stack:
        provider = stack.enter_context(stage.provider("--open"))
        consumer = stack.enter_context(stage.consumer("--join", provider.address))
        await awaited(lambda: bool(listed(consumer)), SEEN_S)
        async with streamed(consumer) as lines:
            for _ in range(200):
                await anext(lines)
            provider.process.kill()
            await broken(lines)
    with ExitStack() as stack:
        provider = stack.enter_context(stage.provider("--open"))
        consumer = stack.enter_context(stage.consumer("--join", provider.address))
        owed = accounts(consumer, "consumer")
        assert len(owed) == 1
        assert owed[0].total_uc > owed[0].confirmed_uc, "nothing was left open by the cut"
        await awaited(lambda: bool(listed(consumer)), SEEN_S)
        with pytest.raises(httpx2.TransportError):
            await _cut(consumer, after=100)
        consumer = stack.enter_context(stage.consumer("--join", provider.address))
        await awaited(lambda: chat(consumer).status_code == 200, 20)
        await awaited(lambda: reconciled(consumer, [provider]), 10)
        spent = accounts(consumer, "consumer")
    assert owed[0]._replace(confirmed_uc=owed[0].total_uc) in spent, "what was open at the cut was settled as it was"
    assert len(spent) == 3, "each run of a consumer signs on a channel of its own"


async def _cut(consumer: Node, *, after: int) -> None:
    """Kill the consumer when so many lines of an answer are here. Raises what its client sees."""
    async with streamed(consumer) as lines:
        for _ in range(after):
            await anext(lines)
        consumer.process.kill()
        await broken(lines)


def test_what_the_owner_said_holds_over_a_power_cut(stage: Stage) -> None:
    with stage.provider("--open") as provider, stage.consumer() as consumer:
        joined = consumer.meshnode("join", provider.address)
        assert joined.returncode == 0
        assert joined.stdout.startswith("Joined.")
        until(lambda: bool(listed(consumer)), SEEN_S)
        (model,) = listed(consumer)
        assert provider.told("unserve", model)["served"] is False
        provider.kill()
        consumer.kill()
    with stage.provider("--open") as provider, stage.consumer() as consumer:
        assert provider.told("serve") == {"models": [{"id": model, "served": False}]}
        assert _meets(consumer, provider), "it does not come back by itself"
        assert listed(consumer) == {}
        provider.told("serve", model)
        until(lambda: model in listed(consumer), SEEN_S)
        assert chat(consumer).status_code == 200
        assert consumer.told("leave")["forgotten"] >= 1
        consumer.kill()
    with stage.provider("--open") as provider, stage.consumer() as consumer:
        assert provider.told("serve") == {"models": [{"id": model, "served": True}]}
        assert consumer.status()["mesh"]["joined"] is False
        assert consumer.told("peers") == {"peers": []}, "it was told to leave"


def _meets(consumer: Node, provider: Node) -> bool:
    until(lambda: provider.peer in [peer["peer"] for peer in consumer.told("peers")["peers"] if peer["connected"]], 10)
    return True


# --- many at once -----------------------------------------------------------------------------------


async def test_two_hundred_clients_of_a_consumer_are_answered_or_told_when_to_try_again(
    pair: tuple[Node, Node],
) -> None:
    provider, consumer = pair
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        async with httpx2.AsyncClient(base_url=consumer.api, timeout=60) as http:
            answers.append(await http.post("/v1/chat/completions", json={**HELLO, "ignore_eos": True}))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert served
    assert all(answer.json()["usage"]["completion_tokens"] == HELLO["max_tokens"] for answer in served)
    assert {answer.status_code for answer in refused} <= {429, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    await awaited(lambda: reconciled(consumer, [provider]), 10)
    assert sum(model["running"] + model["waiting"] for model in provider.status()["models"]) == 0
    assert (await trio.to_thread.run_sync(chat, consumer)).status_code == 200
