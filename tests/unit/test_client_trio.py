"""The client for trio: its streams. What it asks and gives back: tests/contract/test_client.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshnode.client_trio import open_client, open_client_at
from meshnode.domain import Message, Role, TextPart
from meshnode.errors import InvalidField, NodeNotRunning, SourceFailed, WorkerDied
from tests.kit.fakenode import FakeNode, fake_node

QUESTION = [Message(role=Role.USER, parts=(TextPart("Hello?"),))]
CHAT = "POST /v1/chat/completions"
GOOD = 'data: {"choices": [{"delta": {"content": "Good "}}]}'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with fake_node(tmp_path / "home") as node:
        yield node


async def test_an_answer_comes_piece_by_piece(node: FakeNode) -> None:
    node.lines(CHAT, ": waiting", GOOD, "", 'data: {"choices": [{"delta": {"content": "day."}}]}', "data: [DONE]", GOOD)
    async with open_client(node.home) as client, client.chat(QUESTION, model="a") as pieces:
        assert [piece async for piece in pieces] == ["Good ", "day."]
    assert node.asked[0].body["model"] == "a"


async def test_what_came_before_an_error_comes_first(node: FakeNode) -> None:
    node.lines(CHAT, GOOD, 'data: {"error": {"message": "the worker died.", "code": "worker_died"}}')
    async with open_client(node.home) as client, client.chat(QUESTION) as pieces:
        assert await anext(pieces) == "Good "
        with pytest.raises(WorkerDied, match="the worker died"):
            await anext(pieces)
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


async def test_a_pull_that_fails_says_why(node: FakeNode) -> None:
    node.lines("POST /api/models/pull", '{"phase": "fetch"}', '{"error": {"message": "no.", "code": "source_failed"}}')
    async with open_client(node.home) as client, client.pull("x") as steps:
        with pytest.raises(SourceFailed):
            assert [step.phase async for step in steps] == []


async def test_a_refusal_comes_before_the_block(node: FakeNode) -> None:
    node.error(CHAT, 400, "invalid_value", "temperature is wrong.")
    async with open_client(node.home) as client:
        with pytest.raises(InvalidField):
            async with client.chat(QUESTION):
                pytest.fail("there is no answer")


async def test_a_reader_that_leaves_hangs_up(node: FakeNode) -> None:
    node.lines(CHAT, GOOD, hold=True)
    async with open_client(node.home) as client, client.chat(QUESTION) as pieces:
        await anext(pieces)
    assert await trio.to_thread.run_sync(node.left.wait, 30)


async def test_a_node_that_ends_in_mid_answer_is_told(node: FakeNode) -> None:
    node.lines(CHAT, GOOD, cut=True)
    async with open_client(node.home) as client, client.chat(QUESTION) as pieces:
        with pytest.raises(NodeNotRunning, match="ended before"):
            assert [piece async for piece in pieces] == []


async def test_an_error_of_the_block_stays_what_it_is(node: FakeNode) -> None:
    node.lines(CHAT, GOOD, "data: [DONE]")
    with pytest.raises(KeyError):
        async with open_client(node.home) as client, client.chat(QUESTION):
            raise KeyError


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NodeNotRunning, match="meshnode up --home"):
        async with open_client(tmp_path):
            pytest.fail("there is nothing to talk to")
    async with open_client_at("http://127.0.0.1:1") as client:
        with pytest.raises(NodeNotRunning, match=r"at http://127\.0\.0\.1:1"):
            await client.status()
