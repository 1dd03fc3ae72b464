"""A home with a node's canned socket in it, and the command line as a shell would run it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from meshnode.cli.main import run
from tests.kit.fakenode import FakeNode, fake_node


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


Shell = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MESHNODE_DEBUG", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("MESHNODE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def node(home: Path) -> Iterator[FakeNode]:
    with fake_node(home) as node:
        yield node


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    def run_line(*words: str) -> Ran:
        code = run(words)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run_line
