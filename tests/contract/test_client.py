"""Both clients, over both ways, against the API itself: what one can ask the other can, with the same answers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from meshnode import client as plain
from meshnode import client_trio
from meshnode.client_records import Status
from meshnode.domain import Message, Role, TextPart
from meshnode.errors import InvalidField, ModelNotFound, NotFound, SourceFailed, Unauthorized, Unreachable
from meshnode.events import Counted, Finished, RerankResult, Started, Usage
from tests.kit.api import ADMIN_TOKEN, CARD, Api, Scripted, Step, running_api

QUESTION = [Message(role=Role.USER, parts=(TextPart("Hello?"),))]
COUNTED: list[Step] = [
    Started(2),
    Counted(2, token_ids=(1, 2), text="hi", pieces=(b"h", b"\xff")),
    Finished(Usage(prompt_tokens=2)),
]
Call = Callable[..., Any]


@asynccontextmanager
async def awaited(api: Api, home: Path | None) -> AsyncIterator[Call]:
    """The client for trio; streams as lists."""
    opened = client_trio.open_client(home) if home else client_trio.open_client_at(api.url, key=ADMIN_TOKEN)
    async with opened as node:

        async def call(name: str, /, *args: Any, **named: Any) -> Any:
            given = getattr(node, name)(*args, **named)
            if not hasattr(given, "__aenter__"):
                return await given
            async with given as items:
                return [item async for item in items]

        yield call


@asynccontextmanager
async def threaded(api: Api, home: Path | None) -> AsyncIterator[Call]:
    """The plain client, each call in a thread; streams as lists."""

    def ask(name: str, args: Any, named: Any) -> Any:
        opened = plain.open_client(home) if home else plain.open_client_at(api.url, key=ADMIN_TOKEN)
        with opened as node:
            given = getattr(node, name)(*args, **named)
            return list(given) if inspect.isgenerator(given) else given

    async def call(name: str, /, *args: Any, **named: Any) -> Any:
        return await trio.to_thread.run_sync(partial(ask, name, args, named))

    yield call


@pytest.fixture(params=["plain", "trio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["home", "url"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def asking(kind: str, way: str, home: Path, steps: list[Step] | None = None) -> AsyncIterator[tuple[Api, Call]]:
    """A running API, and a client of it."""
    dispatcher = Scripted(steps) if steps is not None else None
    async with running_api(dispatcher, control_socket=home / "control.sock") as api:
        opened = awaited if kind == "trio" else threaded
        async with opened(api, home if way == "home" else None) as call:
            yield api, call


def test_they_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(of: type) -> dict[str, list[str]]:
        return {
            name: [str(each) for each in inspect.signature(one).parameters.values()]
            for name, one in vars(of).items()
            if not name.startswith("_")
        }

    assert methods(plain.Client) == methods(client_trio.Client)


async def test_the_node_is_told_of(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        status = await call("status")
        assert isinstance(status, Status)
        assert (status.peer_id, status.generating) == ("12D3KooWNode", 0)
        assert b"12D3KooWNode" in await call("status_json")
        assert (await call("health")).status == "ok"
        assert "# HELP" in await call("metrics")


async def test_models_are_steered(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        (model, *_) = await call("models")
        assert (model.id, model.state, model.sha256, model.kv_total) == (CARD.id, "ready", CARD.sha256, 1024)
        assert (await call("fit", CARD.id, 512)).fit.context == 512
        assert (await call("unload", CARD.id)).state == "unloaded"
        assert (await call("load", CARD.id)).state == "ready"
        assert (await call("add", Path("/x/new.gguf"), name="new")).id == "new"
        assert await call("remove", "new") == "new"
        assert len(await call("scan")) == 1
        with pytest.raises(ModelNotFound):
            await call("load", "nobody")


async def test_streams(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        assert "".join(await call("chat", QUESTION)) == "Hello world"
        assert [step.phase for step in await call("pull", "default")] == ["fetch", "verify", "done"]
        with pytest.raises(SourceFailed):
            await call("pull", "elsewhere")


async def test_prompts(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path, COUNTED) as (_, call):
        assert await call("tokenize", "hi") == (1, 2)
        assert [each.piece for each in await call("pieces", "hi")] == ["h", (255,)]
        assert await call("detokenize", [1, 2]) == "hi"
        assert await call("apply_template", [{"role": "user", "content": "hi"}]) == "hi"
        with pytest.raises(InvalidField):
            await call("apply_template", [])


async def test_stored_prompts(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        for version in (1, 2):
            added = await call("add_template", "greet", [{"role": "user", "content": f"{version}: {{{{name}}}}"}])
            assert (added.version, added.variables) == (version, ("name",))
        assert [each.version for each in await call("templates")] == [2]
        assert (await call("template", "greet", version=1)).messages[0].content == "1: {{name}}"
        assert await call("remove_template", "greet") == 2
        with pytest.raises(NotFound):
            await call("template", "greet")


async def test_the_mesh_is_steered(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        assert isinstance(await call("peers"), tuple)
        assert (await call("credits")).balance == 0
        assert await call("credits_json")
        assert isinstance(await call("served"), tuple)
        assert await call("leave") >= 0
        with pytest.raises((InvalidField, Unreachable)):
            await call("join", "nonsense")


async def test_requests_of_several_kinds(kind: str, way: str, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    async with asking(kind, way, tmp_path) as (api, call):
        compared = (await call("compare", [CARD.id, CARD.id], messages, max_tokens=5)).data
        assert [each.response["choices"][0]["message"]["content"] for each in compared] == ["Hello world"] * 2
        with pytest.raises(InvalidField):
            await call("compare", [CARD.id], messages)
        assert [each.id for each in (await call("catalog")).models] == [CARD.id]
        assert isinstance((await call("explain", {"messages": messages})).rungs, tuple)
        with pytest.raises(NotFound):
            await call("receipt", "rcpt_none")
        async with api.client() as http:
            begun = (await http.post("/v1/completions", json={"prompt": "a", "async_mode": True})).json()["id"]
        assert [job.id for job in await call("jobs")] == [begun]
        assert (await call("job", begun)).dialect == "completion"
        assert (await call("cancel_job", begun)).status in ("cancelled", "completed")
        await call("delete_job", begun)
        with pytest.raises(NotFound):
            await call("job", begun)


async def test_ranks(kind: str, way: str, tmp_path: Path) -> None:
    steps: list[Step] = [Started(1), RerankResult(0, 0.5), RerankResult(1, 0.7), Finished(Usage(prompt_tokens=1))]
    async with asking(kind, way, tmp_path, steps) as (_, call):
        assert [each.index for each in await call("rerank", "q", ["a", "b"], top_n=2)] == [1, 0]


async def test_what_is_kept_is_counted_and_cleared(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (_, call):
        assert (await call("history")).enabled
        assert (await call("clear_history")).kept == {}


async def test_stopping(kind: str, way: str, tmp_path: Path) -> None:
    async with asking(kind, way, tmp_path) as (api, call):
        await call("stop")
        assert api.stopped == [True]


async def test_a_stranger_is_refused() -> None:
    async with running_api() as api, client_trio.open_client_at(api.url, key="mesh_live_wrong") as node:
        assert (await node.health()).status == "ok"
        with pytest.raises(Unauthorized):
            await node.models()
