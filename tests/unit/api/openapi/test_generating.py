"""The dialects in the table are those of the application."""

from __future__ import annotations

from meshnode.api import app
from meshnode.api.openapi.generating import DIALECTS, GENERATING


def test_every_dialect_is_described_at_its_three_paths() -> None:
    assert {each.path for each in DIALECTS} == set(app.DIALECTS)
    for each in DIALECTS:
        assert sum(endpoint.body is each.body for endpoint in GENERATING) == 3
