"""Each template of llama.cpp's source renders what llama-server renders, or differs for a reason that is listed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from recording import vendored
from recording.cases import CASES

RECORDED: dict[str, Any] = json.loads(vendored.RECORDED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDED["templates"])
def test_cases_are_equal_or_differ_where_a_reason_is_listed(name: str) -> None:
    path = vendored.templates_folder() / name
    if not path.is_file():
        pytest.skip("no templates of llama.cpp in the cache: scripts/test fetches them")
    entry, source = RECORDED["templates"][name], path.read_text(encoding="utf-8")
    assert vendored.digest(source) == entry["sha256"], "another version: record again"
    unlike = vendored.different(vendored.ours(source, entry, datetime.fromisoformat(RECORDED["day"])), entry)
    assert sorted(unlike) == sorted(vendored.reasons().get(name, {}))


def test_every_conversation_is_recorded_for_every_template() -> None:
    assert len(RECORDED["templates"]) >= 70
    for name, entry in RECORDED["templates"].items():
        assert set(entry["cases"]) == set(CASES), name


def test_reasons_are_listed_for_recorded_cases_only() -> None:
    for name, cases in vendored.reasons().items():
        assert cases.keys() <= RECORDED["templates"][name]["cases"].keys()
        assert all(cases.values())
