"""The ways to ask, side by side."""

from __future__ import annotations

from meshnode.api.dialects import AT_ROOT, DIALECTS
from meshnode.api.voice import ANTHROPIC, voice_of


def test_every_dialect_is_kept_under_a_name_of_its_own() -> None:
    assert len({dialect.name for dialect in DIALECTS.values()}) == len(DIALECTS)


def test_no_path_means_two_dialects() -> None:
    assert not DIALECTS.keys() & AT_ROOT.keys()


def test_a_refusal_before_the_body_speaks_as_the_answer_would() -> None:
    for path, dialect in DIALECTS.items():
        assert (voice_of(f"/v1/{path}", {}) is ANTHROPIC) is (dialect.voice is ANTHROPIC)
