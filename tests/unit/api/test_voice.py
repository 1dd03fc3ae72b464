"""Errors and events in each family's own words."""

from __future__ import annotations

import json

import pytest

from meshnode.api.voice import ANTHROPIC, OPENAI, RESPONSES, Voice, voice_of
from meshnode.errors import BodyTooLarge, InvalidField, MeshnodeError, Overloaded, RateLimited, Unauthorized


@pytest.mark.parametrize(
    ("path", "headers", "voice"),
    [
        ("/v1/messages", {}, ANTHROPIC),
        ("/v1/messages/count_tokens", {}, ANTHROPIC),
        ("/v1/messagesx", {}, OPENAI),
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


def test_events_with_names_and_without() -> None:
    assert OPENAI.frame({"type": "x"}) == b'data: {"type":"x"}\n\n'
    assert RESPONSES.frame({"type": "x"}) == b'event: x\ndata: {"type":"x"}\n\n'
    assert json.loads(ANTHROPIC.frame({"type": "ping"}).split(b"data: ")[1]) == {"type": "ping"}
    assert (OPENAI.done, RESPONSES.done, ANTHROPIC.done) == (b"data: [DONE]\n\n", b"", b"")
