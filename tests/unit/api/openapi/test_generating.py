"""The dialects in the table are those of the application."""

from __future__ import annotations

from meshnode.api import dialects
from meshnode.api.openapi.generating import AT_ROOT, DIALECTS, GENERATING


def test_every_dialect_is_described_at_its_three_paths() -> None:
    assert {each.path for each in DIALECTS} == set(dialects.DIALECTS)
    for each in DIALECTS:
        assert sum(endpoint.path.endswith(f"/{each.path}") for endpoint in GENERATING) >= 3


def test_what_has_llama_cpps_paths_is_described_there() -> None:
    assert {each.path for each in AT_ROOT} == set(dialects.AT_ROOT)
    assert all(each.at_root for each in AT_ROOT)
