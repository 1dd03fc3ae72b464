"""``up``: settings in, a node started, and what it says when ready."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from meshnode.cli.banner import Ready
from meshnode.config import Settings
from meshnode.errors import AcceleratorUnusable
from tests.unit.cli import test_banner
from tests.unit.cli.conftest import Shell


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Stands in for the composition root: notes the settings, is ready at once, and ends with 0."""
    seen: list[Settings] = []

    def run(settings: Settings, *, on_ready: Callable[[Ready], None], on_progress: object) -> int:
        seen.append(settings)
        if settings.engine.model == "impossible":
            raise AcceleratorUnusable("A GPU is there that cannot be used.", hint="Use --cpu.")
        on_ready(test_banner.Ready())
        return 0

    module = ModuleType("meshnode.node")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "meshnode.node", module)
    monkeypatch.setattr("meshnode.node", module, raising=False)
    return seen


def test_flags_variables_and_file_reach_the_node(
    shell: Shell, home: Path, started: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[engine]\nslots = 2\n[aliases]\nfast = "x"\n')
    monkeypatch.setenv("MESHNODE_THREADS", "3")
    assert shell("up", "--cpu").code == 0
    (settings,) = started
    assert settings.home == home
    assert (settings.engine.cpu, settings.engine.slots, settings.engine.threads) == (True, 2, 3)
    assert settings.aliases == {"fast": "x"}


def test_when_ready_it_shows_the_banner(shell: Shell, started: list[Settings]) -> None:
    out = shell("up").out
    assert "meshnode" in out.splitlines()[0]
    assert "curl http://127.0.0.1:9337/v1/chat/completions" in out


def test_for_programs_it_is_one_line_of_json(shell: Shell, started: list[Settings]) -> None:
    (line,) = shell("up", "--json").out.splitlines()
    assert json.loads(line)["api"][0] == "http://127.0.0.1:9337/v1"


def test_a_start_that_fails_is_one_line_with_its_code(shell: Shell, started: list[Settings]) -> None:
    ran = shell("up", "--model", "impossible")
    assert ran == (18, "", "meshnode: A GPU is there that cannot be used. Use --cpu.\n")
