"""``history`` and ``history clear``."""

from __future__ import annotations

import io
import json

import pytest

from tests.kit.fakenode import FakeNode
from tests.unit.cli.conftest import Shell

KEPT = {"enabled": True, "kept": {"job": 3, "file": 1}}
NONE = {"enabled": True, "kept": {}}


class Terminal(io.StringIO):
    """A person at a terminal."""

    def isatty(self) -> bool:
        """True."""
        return True


def cleared(node: FakeNode) -> bool:
    return any(asked.method == "DELETE" for asked in node.asked)


def test_what_is_kept_is_shown_by_kind(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/history", KEPT)
    assert [line.split() for line in shell("history").out.splitlines()] == [
        ["KEPT", "COUNT"],
        ["file", "1"],
        ["job", "3"],
    ]
    assert json.loads(shell("history", "--json").out) == KEPT


def test_nothing_kept_and_keeping_switched_off_are_said(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/history", NONE)
    assert shell("history").out == "Nothing is kept.\n"
    node.json("GET /api/history", {"enabled": False, "kept": {"job": 1}})
    assert "store.enabled is off" in shell("history").out


def test_without_a_terminal_it_is_cleared_only_with_yes(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/history", KEPT)
    node.json("DELETE /api/history", KEPT)
    ran = shell("history", "clear")
    assert (ran.code, cleared(node)) == (2, False)
    assert "--yes" in ran.err
    ran = shell("history", "clear", "--yes")
    assert (ran.code, ran.out) == (0, "Forgotten: 1 file, 3 job.\n")
    assert cleared(node)
    assert json.loads(shell("history", "clear", "--yes", "--json").out) == KEPT


@pytest.mark.parametrize(("said", "gone"), [("y\n", True), ("n\n", False), ("", False)])
def test_a_person_is_asked(
    shell: Shell, node: FakeNode, monkeypatch: pytest.MonkeyPatch, said: str, gone: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(said))
    node.json("GET /api/history", KEPT)
    node.json("DELETE /api/history", NONE)
    ran = shell("history", "clear")
    assert cleared(node) is gone
    assert "Forget 1 file, 3 job for good?" in ran.err
    assert ran.out == ("There was nothing to forget.\n" if gone else "")
