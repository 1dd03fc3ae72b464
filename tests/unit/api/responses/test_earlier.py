"""A request completed with what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.responses.earlier import owner_of, prepare
from meshnode.api.responses.stored import response_of
from meshnode.api.schema import Ask
from meshnode.domain import OWNER, CallerId, FinishReason, Message, Role, TextPart
from meshnode.errors import InvalidField, MeshnodeError, UnsupportedParameter
from meshnode.events import ChoiceFinished, Event, Finished, ReasoningDelta, Started, ToolCallDelta, ToolCallStarted
from meshnode.events import Usage as Counts
from meshnode.gateway.job import Job, JobStatus, NoJobs
from meshnode.gateway.principal import Principal
from tests.kit.api import Scripted, a_context
from tests.kit.responses import SomeJobs as Some
from tests.kit.responses import asked, kept

CALLED: tuple[Event, ...] = (
    Started(5),
    ReasoningDelta("hm"),
    ToolCallStarted(0, "c1", "f"),
    ToolCallDelta(0, "{}"),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    Finished(Counts()),
)


async def prepared(ask: Ask, *jobs: Job, who: CallerId = OWNER, off: bool = False) -> Ask:
    context = a_context(Scripted([]), [], jobs=NoJobs() if off else Some(list(jobs)))
    return await prepare(context, Principal(who, admin=False), ask)


def said(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [
        (message.role.value, "".join(part.text for part in message.parts if isinstance(part, TextPart)))
        for message in messages
    ]


async def test_a_response_goes_on_from_the_one_before_without_its_instructions() -> None:
    first = kept(await prepared(asked(instructions="Be kind.")))
    follow_up = asked(input="and?", previous_response_id="resp_0a", instructions="Be brief.")
    second = kept(await prepared(follow_up, first), id="resp_0b")
    assert said(second.request.messages) == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "Hello"),
        ("user", "and?"),
    ]
    third = await prepared(asked(input="so?", previous_response_id="resp_0b"), first, second)
    assert said(third.request.messages) == [
        ("user", "hi"),
        ("assistant", "Hello"),
        ("user", "and?"),
        ("assistant", "Hello"),
        ("user", "so?"),
    ]


async def test_a_call_of_the_response_before_gets_its_result() -> None:
    result = {"type": "function_call_output", "call_id": "c1", "output": "7"}
    ask = await prepared(asked(input=[result], previous_response_id="resp_0a"), kept(events=CALLED))
    _, call, answer = ask.request.messages
    assert [one.id for one in call.tool_calls] == ["c1"]
    assert (answer.role, answer.tool_call_id) == (Role.TOOL, "c1")


async def test_items_of_kept_responses_can_be_referred_to() -> None:
    first = kept(asked(input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]))
    reply = response_of(first)["output"][0]["id"]
    ask = await prepared(asked(input=[{"id": "msg_0a_in1"}, {"type": "item_reference", "id": reply}]), first)
    assert said(ask.request.messages) == [("user", "two"), ("assistant", "Hello")]
    assert [item["type"] for item in ask.echo["input"]] == ["message", "message"]


@pytest.mark.parametrize("id_", ["msg_0a_7", "msg_zz_0", "x", ""])
async def test_a_reference_to_nothing_is_named(id_: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await prepared(asked(input=[{"type": "item_reference", "id": id_}]), kept())
    assert caught.value.param == "input[0].id"


@pytest.mark.parametrize(
    ("job", "who"),
    [
        (kept(id="resp_other"), OWNER),
        (kept(), CallerId("somebody else")),
        (kept(dialect="chat"), OWNER),
        (kept(status=JobStatus.IN_PROGRESS), OWNER),
    ],
)
async def test_there_is_no_going_on_from_what_is_not_there(job: Job, who: CallerId) -> None:
    with pytest.raises(InvalidField) as caught:
        await prepared(asked(previous_response_id="resp_0a"), job, who=who)
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_0a"}, "previous_response_id"),
        ({"input": [{"id": "msg_1"}]}, "input"),
    ],
)
async def test_where_nothing_is_kept_what_needs_it_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        await prepared(asked(**fields), off=True)
    assert caught.value.param == param


async def test_where_nothing_is_kept_a_response_is_not() -> None:
    ask = await prepared(asked(), off=True)
    assert ask.keep.store is False
    assert ask.echo["response"]["store"] is False


async def test_what_is_not_kept_does_not_carry_its_input_along() -> None:
    assert "input" in (await prepared(asked())).echo
    assert "input" not in (await prepared(asked(store=False))).echo


def test_the_id_of_an_item_says_whose_it_is() -> None:
    assert owner_of("msg_0a_3") == "resp_0a"
    assert owner_of("fc_0a_in2") == "resp_0a"


async def test_errors_are_errors_of_the_request() -> None:
    with pytest.raises(MeshnodeError) as caught:
        await prepared(asked(previous_response_id="resp_gone"))
    assert caught.value.status == 400
