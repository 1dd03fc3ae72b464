"""Errors and events in each family's own words."""

from __future__ import annotations

import json

import pytest

from meshnode.api.voice import ANTHROPIC, OPENAI, RESPONSES, Voice, voice_of
from meshnode.errors import (
    BodyTooLarge,
    ContextLengthExceeded,
    InvalidField,
    MeshnodeError,
    Overloaded,
    RateLimited,
    Unauthorized,
)


@pytest.mark.parametrize(
    ("path", "headers", "voice"),
    [
        ("/v1/messages", {}, ANTHROPIC),
        ("/v1/messages/count_tokens", {}, ANTHROPIC),
        ("/v1/messagesx", {}, OPENAI),
        ("/v1/models/owner/repo/messages", {}, ANTHROPIC),
        ("/openai/deployments/a/messages/count_tokens", {}, ANTHROPIC),
        ("/v1/threads/messages", {}, OPENAI),
        ("/v1/models/a", {"anthropic-version": "2023-06-01"}, ANTHROPIC),
        ("/v1/models", {}, OPENAI),
        ("/v1/chat/completions", {"anthropic-version": "2023-06-01"}, OPENAI),
    ],
)
def test_the_voice_of_a_path(path: str, headers: dict[str, str], voice: Voice) -> None:
    assert voice_of(path, headers) is voice


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidField("no.", param="x"), "invalid_request_error"),
        (Unauthorized("no."), "authentication_error"),
        (BodyTooLarge("no."), "request_too_large"),
        (RateLimited("no."), "rate_limit_error"),
        (Overloaded("no."), "overloaded_error"),
    ],
)
def test_anthropics_envelope(error: MeshnodeError, kind: str) -> None:
    body = ANTHROPIC.envelope(error, "req_1")
    assert body == {"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("the prompt has 5000 tokens; the model's context here is 4096, answer included.",
         "5000 tokens > 4096 maximum"),
        ("the prompt has at least 70000 tokens; the model's context here is 4096, answer included.",
         "70000 tokens > 4096 maximum"),
        ("the prompt has 4096 tokens and at least 9 of answer; the model's context here is 4096, answer included.",
         "4096 tokens > 4095 maximum"),
        ("its context of 2048 tokens is too short for about 3000; nobody has a longer one.",
         "3000 tokens > 2048 maximum"),
        ("it is too long.", "it is too long. Shorten it."),
    ],
)  # fmt: skip
def test_a_prompt_that_is_too_long_is_told_as_coding_agents_read_it(message: str, told: str) -> None:
    error = ContextLengthExceeded(message, hint="Shorten it.", param="messages")
    body = ANTHROPIC.envelope(error, "req_1")
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(f"prompt is too long: {told}")
    assert body["error"]["message"].endswith(str(error))


def test_events_with_names_and_without() -> None:
    assert OPENAI.frame({"type": "x"}) == b'data: {"type":"x"}\n\n'
    assert RESPONSES.frame({"type": "x"}) == b'event: x\ndata: {"type":"x"}\n\n'
    assert json.loads(ANTHROPIC.frame({"type": "ping"}).split(b"data: ")[1]) == {"type": "ping"}
    assert (OPENAI.ping, ANTHROPIC.ping) == (b"", b'event: ping\ndata: {"type":"ping"}\n\n')
    assert (OPENAI.done, RESPONSES.done, ANTHROPIC.done) == (b"data: [DONE]\n\n", b"", b"")
