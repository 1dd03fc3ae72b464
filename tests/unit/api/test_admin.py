"""What the owner does, by token and through the package's own client over the control socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio

from meshnode.client import Client, open_client
from meshnode.errors import Conflict, Draining, ModelNotFound, SourceFailed
from tests.kit.api import ADMIN_TOKEN, CARD, MemoryLibrary, MemoryPool, read_until, ready, running_api
from tests.kit.fakemesh import FAR, FakeMesh

T = TypeVar("T")
TOKEN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


async def as_owner(home: Path, call: Callable[[Client], T]) -> T:
    """``call`` with the client that the command line uses, in a thread."""

    def run() -> T:
        with open_client(home) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


async def test_models_in_and_out(tmp_path: Path) -> None:
    async with running_api(control_socket=tmp_path / "control.sock"):
        assert [(m.id, m.state) for m in await as_owner(tmp_path, Client.models)] == [(CARD.id, "ready")]
        assert (await as_owner(tmp_path, lambda node: node.add(Path("/m/new.gguf")))).id == "new"
        assert len(await as_owner(tmp_path, Client.scan)) == 2
        assert await as_owner(tmp_path, lambda node: node.remove("new")) == "new"
        assert len(await as_owner(tmp_path, Client.models)) == 1
        with pytest.raises(ModelNotFound):
            await as_owner(tmp_path, lambda node: node.remove("nobody"))


async def test_models_of_peers_are_listed_after_ours_and_cannot_be_removed(tmp_path: Path) -> None:
    here_too = msgspec.structs.replace(FAR, id=CARD.id)
    async with running_api(control_socket=tmp_path / "control.sock", mesh=FakeMesh(offered=(FAR, here_too))):
        ours, theirs = await as_owner(tmp_path, Client.models)
        with pytest.raises(ModelNotFound):
            await as_owner(tmp_path, lambda node: node.remove(FAR.id))
    assert (ours.id, ours.owned_by, ours.providers, ours.path) == (CARD.id, "local", 2, CARD.path)
    assert (theirs.id, theirs.owned_by, theirs.providers, theirs.state) == (FAR.id, "mesh", 2, "ready")
    assert (theirs.path, theirs.size, theirs.managed) == ("", 0, False)


async def test_load_and_unload(tmp_path: Path) -> None:
    pool = MemoryPool(ready())
    async with running_api(control_socket=tmp_path / "control.sock", pool=pool):
        await as_owner(tmp_path, lambda node: node.unload("tiny"))
        assert (await as_owner(tmp_path, Client.models))[0].state == "unloaded"
        await as_owner(tmp_path, lambda node: node.load("tiny"))
        assert (await as_owner(tmp_path, Client.status)).models[0].state == "ready"
        pool.busy = True
        for call in (lambda node: node.unload("tiny"), lambda node: node.remove("tiny")):
            with pytest.raises(Conflict):
                await as_owner(tmp_path, call)


async def test_a_pull_tells_how_far_it_is_and_ends_with_the_model_or_the_error(tmp_path: Path) -> None:
    async with running_api(control_socket=tmp_path / "control.sock"):
        steps = await as_owner(tmp_path, lambda node: list(node.pull("default")))
        assert [step.phase for step in steps] == ["fetch", "verify", "done"]
        assert (steps[0].done, steps[0].total, steps[-1].model) == (1, 2, CARD.id)
        with pytest.raises(SourceFailed, match="it broke off"):
            await as_owner(tmp_path, lambda node: list(node.pull("https://hub.test/x.gguf")))


async def test_a_client_that_leaves_a_pull_stops_it() -> None:
    library = MemoryLibrary(CARD)
    body = json.dumps({"source": "slow"}).encode()
    head = (f"Authorization: Bearer {ADMIN_TOKEN}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    async with running_api(library=library) as api:
        async with api.raw() as client:
            await client.send_all(api.head("POST", "/api/models/pull", *head) + body)
            await read_until(client, b"verify")
            assert library.pulling == 1
        with trio.fail_after(10):
            await library.left.wait()
        assert library.pulling == 0


async def test_a_node_that_stops_ends_a_pull_and_says_so(tmp_path: Path) -> None:
    library = MemoryLibrary(CARD)
    async with running_api(library=library, control_socket=tmp_path / "control.sock") as api:

        def pull(node: Client) -> None:
            steps = node.pull("slow")
            assert [next(steps).phase, next(steps).phase] == ["fetch", "verify"]
            trio.from_thread.run_sync(api.context.draining.set)
            with pytest.raises(Draining, match="what was fetched is kept"):
                next(steps)

        await as_owner(tmp_path, pull)
        assert library.pulling == 0


async def test_stop_is_answered_before_it_happens(tmp_path: Path) -> None:
    async with running_api(control_socket=tmp_path / "control.sock") as api:
        await as_owner(tmp_path, Client.stop)
        assert api.stopped == [True]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/models/pull", {}, "invalid_value"),
        ("/api/models/pull", {"source": 3}, "invalid_value"),
        ("/api/models/pull", {"sauce": "x"}, "unknown_parameter"),
        ("/api/models/add", {"name": "x"}, "invalid_value"),
        ("/api/models/add", {"path": "/x", "name": "n" * 300}, "invalid_value"),
    ],
)
async def test_bad_requests_are_named(path: str, body: object, code: str) -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.post(path, json=body, headers=TOKEN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models"),
        ("POST", "/api/models/pull"),
        ("POST", "/api/models/scan"),
        ("POST", "/api/models/add"),
        ("DELETE", "/api/models/tiny"),
        ("POST", "/api/models/tiny/load"),
        ("POST", "/api/models/tiny/unload"),
        ("POST", "/api/stop"),
        ("GET", "/api/nothing"),
    ],
)
async def test_nothing_of_it_without_the_token(method: str, path: str) -> None:
    async with running_api() as api, api.client() as client:
        assert (await client.request(method, path)).status_code == 401
        assert api.stopped == []


async def test_whether_a_model_would_fit_is_told_for_the_context_asked_for(tmp_path: Path) -> None:
    async with running_api() as api, api.client() as client:
        key = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        told = (await client.get(f"/api/models/{CARD.id}/fit?context=512", headers=key)).json()
        assert (told["model"], told["fits"], told["fit"]["context"]) == (CARD.id, True, 512)
        assert (await client.get(f"/api/models/{CARD.id}/fit", headers=key)).json()["fit"]["context"] == 2048
        for wrong in ("-1", "many", "9" * 40, "٣"):
            answer = await client.get(f"/api/models/{CARD.id}/fit", params={"context": wrong}, headers=key)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "context")
        assert (await client.get("/api/models/nonesuch/fit", headers=key)).status_code == 404
