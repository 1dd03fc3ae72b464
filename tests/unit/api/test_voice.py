"""Errors and events in each family's own words."""

from __future__ import annotations

import json

import pytest

from meshnode.api.voice import ANTHROPIC, OPENAI, RESPONSES, Voice, voice_of
from meshnode.errors import (
    TOO_LONG,
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
        (f"{TOO_LONG}: it has 5000 tokens; the model's context here is 4096, answer included.",
         "prompt is too long: 5000 tokens > 4096 maximum. Shorten it."),
        (f"{TOO_LONG}: it has at least 70000 tokens; the model's context here is 4096, answer included.",
         "prompt is too long: 70000 tokens > 4096 maximum. Shorten it."),
        (f"{TOO_LONG}: it has 4096 tokens and at least 9 of answer; the model's context here is 4096, answer included.",
         "prompt is too long: 4096 tokens > 4095 maximum. Shorten it."),
        (f"{TOO_LONG}: its context of 2048 tokens is too short for about 3000; nobody has a longer one.",
         "prompt is too long: 3000 tokens > 2048 maximum. Shorten it."),
        (f"{TOO_LONG}.", f"{TOO_LONG}. Shorten it."),
    ],
)  # fmt: skip
def test_a_prompt_that_is_too_long_is_told_as_coding_agents_read_it(message: str, told: str) -> None:
    error = ContextLengthExceeded(message, hint="Shorten it.", param="messages")
    body = ANTHROPIC.envelope(error, "req_1")
    assert (body["error"]["type"], body["error"]["message"]) == ("invalid_request_error", told)
    assert OPENAI.envelope(error, "req_1")["error"]["message"] == f"{message} Shorten it."


def test_events_with_names_and_without() -> None:
    assert OPENAI.frame({"type": "x"}) == b'data: {"type":"x"}\n\n'
    assert RESPONSES.frame({"type": "x"}) == b'event: x\ndata: {"type":"x"}\n\n'
    assert json.loads(ANTHROPIC.frame({"type": "ping"}).split(b"data: ")[1]) == {"type": "ping"}
    assert (OPENAI.ping, ANTHROPIC.ping) == (b"", b'event: ping\ndata: {"type":"ping"}\n\n')
    assert (OPENAI.done, RESPONSES.done, ANTHROPIC.done) == (b"data: [DONE]\n\n", b"", b"")
