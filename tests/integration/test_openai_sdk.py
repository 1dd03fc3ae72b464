"""The official ``openai`` package against the API, every answer validated against its own types."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx2
import openai
import pytest
import trio
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from meshnode.errors import ContextLengthExceeded, Overloaded
from meshnode.events import Failed, Started, TextDelta
from tests.kit.api import CARD, Api, Scripted, Step, endless, running_api, spoken

T = TypeVar("T")
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


async def with_sdk(api: Api, call: Callable[[OpenAI], T]) -> T:
    """Run ``call`` with a client in a thread, as a person's program would."""

    def run() -> T:
        with OpenAI(
            base_url=f"{api.url}/v1", api_key="unused", max_retries=0, timeout=30, _strict_response_validation=True
        ) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


async def test_chat_one_shot() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        answer = await with_sdk(
            api, lambda sdk: sdk.chat.completions.create(model="tiny", messages=HI, max_tokens=5, seed=3)
        )
        request = api.scripted.requests[0]
    assert answer.choices[0].message.content == "Hello world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == CARD.id
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("fp_")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert (request.model, request.stopping.max_tokens, request.sampling.seed) == ("tiny", 5, 3)


def streamed(sdk: OpenAI, usage: bool) -> list[ChatCompletionChunk]:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    return list(sdk.chat.completions.create(model="tiny", messages=HI, stream=True, **options))  # type: ignore[call-overload]


async def test_chat_stream() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        chunks = await with_sdk(api, lambda sdk: streamed(sdk, usage=False))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in chunks[1:]] == [None] * (len(chunks) - 1)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.usage for chunk in chunks} == {None}
    assert len({chunk.id for chunk in chunks}) == 1


async def test_chat_stream_with_usage() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        chunks = await with_sdk(api, lambda sdk: streamed(sdk, usage=True))
    *rest, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 7
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in rest)


async def test_completion_one_shot_and_stream() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        whole = await with_sdk(api, lambda sdk: sdk.completions.create(model="tiny", prompt="say"))
        pieces = await with_sdk(api, pieces_of_a_completion)
    assert whole.choices[0].text == "Hello world"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 2
    assert "".join(piece.choices[0].text for piece in pieces) == "Hello world"
    assert pieces[-1].choices[0].finish_reason == "stop"


def pieces_of_a_completion(sdk: OpenAI) -> list[Completion]:
    """Not validated: the package's type has no ``finish_reason: null``, which OpenAI's own streams send."""
    lenient = OpenAI(base_url=sdk.base_url, api_key="unused", max_retries=0, http_client=sdk._client)
    return list(lenient.completions.create(model="tiny", prompt="say", stream=True))


async def test_models_list_and_retrieve_by_any_spelling() -> None:
    async with running_api() as api:
        listed = await with_sdk(api, lambda sdk: list(sdk.models.list()))
        found = await with_sdk(api, lambda sdk: sdk.models.retrieve("TINY"))
    assert [model.id for model in listed] == [CARD.id]
    assert listed[0].owned_by == "local"
    assert found.id == CARD.id
    assert found.model_extra is not None
    assert found.model_extra["context_length"] == 1024
    assert found.model_extra["decode_tps"] == 21.5


async def test_an_unknown_model_is_not_found_error_with_its_code() -> None:
    async with running_api() as api:
        with pytest.raises(openai.NotFoundError) as caught:
            await with_sdk(api, lambda sdk: sdk.models.retrieve("tinny"))
    assert caught.value.code == "model_not_found"
    assert "tiny" in caught.value.message


async def test_a_wrong_field_is_bad_request_error_that_names_it() -> None:
    async with running_api() as api:
        with pytest.raises(openai.BadRequestError) as caught:
            await with_sdk(api, lambda sdk: sdk.chat.completions.create(model="t", messages=HI, temperature=9))
        assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
        assert caught.value.type == "invalid_request_error"
        with pytest.raises(openai.BadRequestError) as caught:
            await with_sdk(api, lambda sdk: sdk.chat.completions.create(model="t", messages=HI, web_search_options={}))
        assert (caught.value.param, caught.value.code) == ("web_search_options", "unsupported_parameter")


async def test_an_error_before_the_first_token_keeps_its_status_in_a_stream() -> None:
    refusal = ContextLengthExceeded("the prompt has 5000 tokens, the context 1024.")
    failed = Failed(refusal.code, refusal.message)
    for dispatcher in (Scripted([], refusal=refusal), Scripted([failed])):
        async with running_api(dispatcher) as api:
            with pytest.raises(openai.BadRequestError) as caught:
                await with_sdk(api, lambda sdk: streamed(sdk, usage=False))
        assert caught.value.code == "context_length_exceeded"
        assert "5000" in caught.value.message


async def test_an_error_after_the_first_token_is_raised_by_the_stream() -> None:
    steps: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]
    async with running_api(Scripted(steps)) as api:
        with pytest.raises(openai.APIError) as caught:
            await with_sdk(api, lambda sdk: streamed(sdk, usage=False))
    assert caught.value.code == "worker_died"
    assert caught.value.message == "the worker died."


async def test_overload_is_retried_by_the_sdk_after_the_time_it_is_told() -> None:
    dispatcher = Scripted([], refusal=Overloaded("full.", retry_after_s=0.05))

    def call(sdk: OpenAI) -> None:
        patient = sdk.with_options(max_retries=2)
        with pytest.raises(openai.InternalServerError) as caught:
            patient.chat.completions.create(model="tiny", messages=HI)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after-ms"] == "50"

    async with running_api(dispatcher) as api:
        await with_sdk(api, call)
        assert len(dispatcher.requests) == 3


async def test_breaking_off_a_stream_ends_the_generation() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])

    def call(sdk: OpenAI) -> None:
        with sdk.chat.completions.create(model="tiny", messages=HI, stream=True) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"

    async with running_api(dispatcher) as api:
        await with_sdk(api, call)
        with trio.fail_after(10):
            await dispatcher.left.wait()
    assert dispatcher.inside == 0


async def test_answers_say_which_road_they_took() -> None:
    async with running_api() as api, api.client() as client:
        body = {"messages": HI}
        answer = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine-1"})
        insane = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "a b"})
    assert road(answer) == ("mine-1", "12D3KooWNode", CARD.id, "local; attempts=1; reason=loaded")
    assert insane.headers["x-request-id"].startswith("req_")
    assert float(answer.headers["x-mesh-queue-ms"]) == 1.0
    assert float(answer.headers["x-mesh-overhead-ms"]) >= 0.0


def road(answer: httpx2.Response) -> tuple[str, ...]:
    names = ("x-request-id", "x-mesh-node", "x-mesh-model", "x-mesh-route")
    return tuple(answer.headers[name] for name in names)
