"""The fields both dialects share."""

from __future__ import annotations

import pytest

from meshnode.api.schema import Asker, CommonFields, ask, common, sampling, stopping
from meshnode.domain import OWNER, GenerationRequest, RequestId, Sampling, Stopping
from meshnode.errors import InvalidField

ASKER = Asker(RequestId("r1"), OWNER)


def test_nothing_sent_gives_the_domains_defaults() -> None:
    assert sampling(CommonFields()) == Sampling()
    assert stopping(CommonFields(), None) == Stopping()


def test_what_is_sent_arrives() -> None:
    fields = CommonFields(
        temperature=0.0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        frequency_penalty=-1,
        presence_penalty=2,
        seed=-1,
        logit_bias={"7": -100, "12": 5.5},
        stop=["a", "b"],
        stop_token_ids=[1],
        min_tokens=2,
        ignore_eos=True,
    )
    assert sampling(fields) == Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=0,
        min_p=0.1,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        frequency_penalty=-1,
        presence_penalty=2,
        seed=2**64 - 1,
        logit_bias=((7, -100), (12, 5.5)),
    )
    assert stopping(fields, 9) == Stopping(
        max_tokens=9, min_tokens=2, stop=("a", "b"), stop_token_ids=(1,), ignore_eos=True
    )


@pytest.mark.parametrize("name", ["x", "-1", "1.5", "", "٣", "99999999999"])
def test_a_bias_must_be_for_a_token_id(name: str) -> None:
    with pytest.raises(InvalidField, match="logit_bias"):
        sampling(CommonFields(logit_bias={name: 1}))


@pytest.mark.parametrize("stop", ["", "x" * 257])
def test_a_stop_string_has_1_to_256_characters(stop: str) -> None:
    with pytest.raises(InvalidField) as caught:
        stopping(CommonFields(stop=stop), None)
    assert caught.value.param == "stop"
    assert "xxx" not in str(caught.value)


def test_min_tokens_above_max_tokens_is_refused() -> None:
    with pytest.raises(InvalidField, match="at most max_tokens, which is 3"):
        stopping(CommonFields(min_tokens=4), 3)


def test_id_caller_deadline_and_model_are_set() -> None:
    request = GenerationRequest(**common(CommonFields(deadline_ms=1500, cache_prompt=False), ASKER))
    assert (request.id, request.caller, request.deadline_s, request.cache_prompt) == ("r1", OWNER, 1.5, False)
    assert request.model == ""
    asked = ask(CommonFields(model="m", stream=True), request)
    assert (asked.stream, asked.include_usage, asked.model) == (True, False, "m")


def test_repetition_penalty_is_repeat_penalty_over_all_there_is() -> None:
    found = sampling(CommonFields(repetition_penalty=1.2))
    assert (found.repeat_penalty, found.repeat_last_n) == (1.2, -1)
    assert sampling(CommonFields(repetition_penalty=1.2, repeat_last_n=8)).repeat_last_n == 8
    with pytest.raises(InvalidField, match="both given"):
        sampling(CommonFields(repetition_penalty=1.2, repeat_penalty=1.1))
