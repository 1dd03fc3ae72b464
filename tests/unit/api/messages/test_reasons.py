"""What is without effect or refused has a reason, and is treated as told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.api.messages.reasons import NO_EFFECT, REFUSED
from meshnode.api.messages.schema import parse_messages
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, RequestId
from meshnode.errors import UnsupportedParameter

ASKER = Asker(RequestId("r"), OWNER)
BODY: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
SAMPLES: dict[str, Any] = {
    "cache_control": {"type": "ephemeral"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "diagnostics": {"previous_message_id": None},
    "metadata": {"user_id": "u"},
    "service_tier": "standard_only",
    "speed": "fast",
    "user_profile_id": "u",
    "workspace_id": "w",
    "betas": ["x"],
    "anthropic_version": "vertex-2023-10-16",
}


def parse(**fields: Any) -> Ask:
    return parse_messages(json.dumps(BODY | fields).encode(), ASKER)


@pytest.mark.parametrize("name", [name for name in NO_EFFECT if "." not in name and "[" not in name])
def test_what_is_without_effect_changes_no_request(name: str) -> None:
    assert parse(**{name: SAMPLES[name]}).request == parse().request
    assert parse(**{name: None}).request == parse().request


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_with_its_reason(name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        parse(**{name: "x"})
    assert caught.value.param == name
    assert REFUSED[name][1] in str(caught.value)
    assert parse(**{name: None}).request == parse().request


def test_values_that_change_nothing_pass() -> None:
    assert parse(mcp_servers=[], inference_geo="global", n=1, fallbacks=[]).request == parse().request


def test_every_reason_is_a_phrase() -> None:
    for reason in (*NO_EFFECT.values(), *(reason for _, reason in REFUSED.values())):
        assert reason[0].islower()
        assert not reason.endswith(".")
