"""One worker as the settings want it, and what befalls it as facts; with the fake worker in a real process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from meshnode.config import EngineSettings
from meshnode.engine.opening import open_engine
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import WorkerEngine
from meshnode.errors import ModelFailed
from tests.kit.requests import card


class Facts:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str | int | float]]] = []

    async def note(self, kind: str, fields: Mapping[str, str | int | float]) -> None:
        """One fact."""
        await trio.lowlevel.checkpoint()
        self.heard.append((kind, dict(fields)))


async def test_a_model_that_cannot_be_loaded_is_a_fact_and_an_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but nothing more")
    facts = Facts()
    with pytest.raises(ModelFailed):
        async with open_engine(
            EngineSettings(cpu=True), worker_spawner(os.environ), facts.note, card("broken", path=str(path)), print
        ):
            pass
    assert facts.heard == [("model_failed", {"model": "broken", "code": "model_failed"})]


async def test_loading_and_dying_are_facts_and_the_settings_reach_the_worker() -> None:
    facts, told = Facts(), list[float]()
    settings = EngineSettings(context=2048, slots=3)
    with trio.fail_after(30):
        async with open_engine(
            settings, worker_spawner(os.environ, fake=True), facts.note, card("m"), told.append
        ) as engine:
            assert (engine.info.n_ctx, engine.info.n_seq_max) == (2048, 3)
            assert told == [1.0]
            assert isinstance(engine, WorkerEngine)
            os.kill(engine.pid, signal.SIGKILL)
            await engine.died()
    assert [kind for kind, _ in facts.heard] == ["model_loaded", "worker_died"]


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's layers are Linux's")
@pytest.mark.parametrize("sandbox", [True, False])
async def test_a_worker_is_in_the_sandbox_unless_its_owner_says_no(sandbox: bool) -> None:
    spawn = worker_spawner(os.environ, sandbox, fake=True)
    async with open_engine(EngineSettings(), spawn, Facts().note, card("m"), print) as engine:
        assert ("no-new-privs" in engine.info.sandbox) == sandbox


async def test_leaving_is_no_death() -> None:
    facts = Facts()
    async with open_engine(EngineSettings(), worker_spawner(os.environ, fake=True), facts.note, card("m"), print):
        pass
    assert [kind for kind, _ in facts.heard] == ["model_loaded"]
