"""Texts repeat with their salt, and differ from the first words on without it."""

from __future__ import annotations

import json

from benchmark.texts import SCHEMA, schema_format, words


def test_a_salt_gives_one_text() -> None:
    assert words(100, "a") == words(100, "a")
    assert words(100, "a").split()[:12] != words(100, "b").split()[:12]
    assert len(words(100, "a").split()) == 100


def test_the_schema_stands_in_a_request() -> None:
    asked = schema_format(SCHEMA)
    assert asked["json_schema"]["strict"] is True
    assert json.loads(json.dumps(asked))["json_schema"]["schema"] == SCHEMA
