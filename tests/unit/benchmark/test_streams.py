"""What is read out of a stream's events, and what out of an error."""

from __future__ import annotations

import pytest
import trio

from benchmark.streams import Answer, LoadError, first_of, in_trio, refused, run, take


def test_text_times_and_ends_are_kept_by_choice() -> None:
    answer = Answer(asked_at=1.0)
    for now, index, piece in ((2.0, 0, "a"), (3.0, 1, "x"), (4.0, 0, "b")):
        take(answer, {"choices": [{"index": index, "delta": {"content": piece}, "finish_reason": None}]}, now)
    take(answer, {"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}, 5.0)
    take(answer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, 5.0)
    take(answer, {"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 9}}, 5.0)
    assert (answer.text, answer.finish, answer.tokens, answer.prompt_tokens) == ("ab", "stop", 3, 9)
    assert (answer.choices, answer.finishes) == ({0: "ab", 1: "x"}, {0: "stop", 1: "length"})
    assert (answer.arrivals, answer.first_token_s) == ([2.0, 3.0, 4.0], 1.0)


def test_an_error_event_breaks_the_stream_with_its_code() -> None:
    with pytest.raises(LoadError, match="broke off") as caught:
        take(Answer(0.0), {"error": {"code": "model_failed", "message": "gone"}}, 1.0)
    assert caught.value.code == "model_failed"


def test_no_text_has_no_first_token() -> None:
    with pytest.raises(LoadError, match="without any text"):
        _ = Answer(0.0).first_token_s


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(b'{"error": {"message": "too long", "code": "x"}}', "x", "too long"), (b"<html>", "502", "<html>")],
)
def test_a_refusal_gives_its_reason(content: bytes, code: str, said: str) -> None:
    error = refused(502, content)
    assert error.code == code
    assert said in str(error)


def test_the_first_error_is_found_in_nested_groups() -> None:
    inner = ValueError("x")
    assert first_of(ExceptionGroup("a", [ExceptionGroup("b", [inner]), KeyError()])) is inner


async def fail_in_a_nursery(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(fail)


def test_an_interrupt_comes_out_as_itself() -> None:
    with pytest.raises(KeyboardInterrupt):
        in_trio(fail_in_a_nursery, KeyboardInterrupt())


def test_a_failed_load_is_one_error_that_names_the_server() -> None:
    with pytest.raises(LoadError, match=r"http://x\.invalid: .*too much") as caught:
        run("http://x.invalid", lambda _client: fail_in_a_nursery(LoadError("too much", "busy")))
    assert caught.value.code == "busy"
