"""The object of a response around its items."""

from __future__ import annotations

import pytest
from openai.types.responses import ResponseError, ResponseUsage

from meshnode.api.responses.shape import fault, usage
from meshnode.errors import ContextLengthExceeded, MeshnodeError, Overloaded, RateLimited, WorkerDied
from meshnode.events import Usage


def test_usage_in_the_words_of_responses() -> None:
    counts = ResponseUsage.model_validate(usage(Usage(10, 4, 6, 1)), strict=True)
    assert (counts.input_tokens, counts.output_tokens, counts.total_tokens) == (10, 4, 14)
    assert counts.input_tokens_details.cached_tokens == 6
    assert counts.output_tokens_details.reasoning_tokens == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContextLengthExceeded("too long.", param="input"), "invalid_prompt"),
        (RateLimited("slow down."), "rate_limit_exceeded"),
        (Overloaded("full."), "server_error"),
        (WorkerDied("gone."), "server_error"),
    ],
)
def test_a_fault_has_a_code_of_openais_list_and_ours_as_its_type(error: MeshnodeError, code: str) -> None:
    told = ResponseError.model_validate(fault(error), strict=True)
    assert (told.code, told.message, told.type) == (code, error.message, error.code)
    assert told.param == error.param
