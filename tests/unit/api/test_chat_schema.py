"""Chat requests: what is honoured, accepted, refused, and how each refusal is named."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params

from meshnode.api.chat_schema import REFUSALS, ChatFields, parse_chat
from meshnode.api.schema import Ask, Asker, Keep, TemplateUse
from meshnode.domain import (
    OWNER,
    ConstraintKind,
    Message,
    ReasoningPart,
    RefusalPart,
    RequestId,
    Role,
    TextPart,
    ToolMode,
)
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("r1"), OWNER)
HI = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> Ask:
    return parse_chat(json.dumps({"messages": [HI], **fields}).encode(), ASKER)


def refused(kind: type[RequestError], **fields: Any) -> RequestError:
    with pytest.raises(kind) as caught:
        parse(**fields)
    return caught.value


def test_the_smallest_request() -> None:
    asked = parse()
    assert asked.request.messages == (Message(role=Role.USER, parts=(TextPart("hi"),)),)
    assert asked.request.stopping.max_tokens is None
    assert (asked.stream, asked.include_usage, asked.request.model) == (False, False, "")


def test_a_conversation_may_be_shortened_where_the_client_says_so() -> None:
    assert parse().request.transforms == ()
    assert parse(transforms=["middle-out"]).request.transforms == ("middle-out",)
    assert parse(plugins=[{"id": "context-compression"}]).request.transforms == ("middle-out",)
    assert refused(InvalidField, transforms=["rot13"]).param == "transforms[0]"


def test_roles_names_and_text_parts() -> None:
    messages = [
        {"role": "system", "content": "be brief", "name": "boss"},
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None, "annotations": [], "audio": None},
        HI,
    ]
    read = parse(messages=messages).request.messages
    assert [message.role.value for message in read] == ["system", "developer", "assistant", "user"]
    assert read[0].name == "boss"
    assert read[1].parts == (TextPart("a"), TextPart("b"))


def test_every_field_the_official_package_knows_is_known_by_name() -> None:
    theirs = get_type_hints(completion_create_params.CompletionCreateParamsNonStreaming)
    assert set(theirs) - set(ChatFields.__struct_fields__) - set(REFUSALS) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", "u"),
        ("metadata", {"a": "b"}),
        ("service_tier", "auto"),
        ("store", False),
        ("safety_identifier", "s"),
        ("prompt_cache_key", "k"),
        ("parallel_tool_calls", True),
        ("verbosity", "low"),
        ("reasoning_effort", "high"),
        ("n", 1),
        ("tools", []),
        ("tool_choice", "auto"),
        ("tool_choice", "none"),
        ("response_format", {"type": "text"}),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("modalities", ["text"]),
        ("typical_p", 1.0),
        ("mirostat", 0),
        ("mirostat_tau", 3.0),
        ("dry_multiplier", 0),
        ("xtc_probability", 0.0),
        ("grammar", ""),
        ("lora", []),
        ("privacy", "standard"),
        ("prediction", None),
        ("audio", None),
        ("session_id", "s"),
        ("priority", 3),
        ("prediction", {"type": "content", "content": "much of it"}),
        ("prediction", {"type": "content", "content": [{"type": "text", "text": "much of it"}]}),
        ("functions", []),
        ("function_call", "none"),
    ],
)
def test_what_changes_no_answer_is_accepted(name: str, value: object) -> None:
    parse(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "a"}),
        ("modalities", ["text", "audio"]),
        ("lora", [{"id": 0}]),
        ("web_search_options", {}),
        ("moderation", {}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, value: object) -> None:
    assert refused(UnsupportedParameter, **{name: value}).param == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 10**300}, "seed"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": 3}, "stop"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [HI, {"role": "wizard", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "song"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"model": 3}, "model"),
        ({"user": "u" * 257}, "user"),
        ({"verbosity": "loud"}, "verbosity"),
        ({"n": 129}, "n"),
        ({"typical_p": 1.1}, "typical_p"),
        ({"mirostat": 3}, "mirostat"),
        ({"dry_base": 0.5}, "dry_base"),
        ({"dry_sequence_breakers": [""]}, "dry_sequence_breakers[0]"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": {}}, "tools"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "c"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "reasoning": "r"}]}, "messages[0].reasoning"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], param: str) -> None:
    error = refused(InvalidField, **fields)
    assert error.param == param
    assert param.partition("[")[0] in error.message
    assert error.hint.startswith("Allowed: ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"stream_options": {"usage": True}}, "stream_options.usage"),
        ({"messages": [{**HI, "colour": 1}]}, "messages[0].colour"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
            "messages[0].content[0].x",
        ),
    ],
)
def test_an_undocumented_field_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(UnknownField, **fields).param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
            "messages[0].content[0].image_url",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0].input_audio"),
    ],
)
def test_messages_this_node_cannot_take_yet_are_refused_by_name(message: dict[str, Any], param: str) -> None:
    assert refused(UnsupportedParameter, messages=[message]).param == param


def test_max_completion_tokens_is_the_newer_name_and_wins() -> None:
    assert parse(max_tokens=5).request.stopping.max_tokens == 5
    assert parse(max_tokens=5, max_completion_tokens=7).request.stopping.max_tokens == 7
    refused(InvalidField, max_completion_tokens=3, min_tokens=4)


def test_null_is_absent_everywhere() -> None:
    names = [*ChatFields.__struct_fields__, *REFUSALS]
    assert parse(**{name: None for name in names if name != "messages"}) == parse()


def test_template_kwargs_travel_as_json() -> None:
    assert json.loads(parse(chat_template_kwargs={"enable_thinking": False, "x": None}).request.template_kwargs) == {
        "enable_thinking": False,
        "x": None,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("a SECRET"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role", "x"]), inner),
    max_leaves=8,
)


def refusal(body: object) -> RequestError | None:
    try:
        parse_chat(json.dumps(body).encode(), ASKER)
    except RequestError as error:
        return error
    return None


@settings(deadline=None)
@given(st.sampled_from(["type", "text", "cache_control", "x"]), json_values)
def test_any_part_is_taken_or_refused_with_its_place(name: str, value: object) -> None:
    error = refusal({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", name: value}]}]})
    assert error is None or (error.status == 400 and (error.param or "").startswith("messages[0].content[0]"))
    assert "SECRET" not in str(error)


@settings(deadline=None)
@given(st.sampled_from(["role", "content", "name", "refusal"]), json_values)
def test_no_error_quotes_a_message(name: str, value: object) -> None:
    error = refusal({"messages": [{**HI, name: value}]})
    assert name == "role" or "SECRET" not in str(error)


@settings(deadline=None)
@given(st.sampled_from([*ChatFields.__struct_fields__, *REFUSALS]), json_values)
def test_any_value_anywhere_is_taken_or_refused_with_a_field(name: str, value: object) -> None:
    error = refusal({"messages": [HI], name: value})
    assert error is None or (error.status == 400 and (error.param or "").startswith(name))


# --- tools, form, logprobs --------------------------------------------------------------------

LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def test_sampling_fields_reach_the_request() -> None:
    given = {"typical_p": 0.5, "top_n_sigma": 1.0, "xtc_probability": 0.25, "dry_multiplier": 0.75, "mirostat": 2}
    sampling = parse(**given, dry_sequence_breakers=["x"], n=3).request.sampling
    assert {name: getattr(sampling, name) for name in given} == given
    assert sampling.dry_sequence_breakers == ("x",)
    assert parse(n=3).request.choices == 3


def test_tools_reach_the_request() -> None:
    request = parse(tools=[LOOK_UP], tool_choice="required", parallel_tool_calls=False).request
    assert [tool.name for tool in request.tools] == ["look_up"]
    assert request.tool_choice.mode is ToolMode.REQUIRED
    assert not request.parallel_tool_calls


def test_a_conversation_with_calls_and_results_is_read_whole() -> None:
    turns = [
        HI,
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c1", "content": "a door"},
        {"role": "assistant", "refusal": "no"},
    ]
    _, calling, result, refusing = parse(messages=turns).request.messages
    assert (calling.parts, calling.tool_calls[0].name) == ((ReasoningPart("hm"),), "look_up")
    assert (result.role, result.tool_call_id, result.parts) == (Role.TOOL, "c1", (TextPart("a door"),))
    assert refusing.parts == (RefusalPart("no"),)


def test_logprobs_and_how_many() -> None:
    assert parse().request.top_logprobs is None
    assert parse(logprobs=True).request.top_logprobs == 0
    assert parse(logprobs=True, top_logprobs=5).request.top_logprobs == 5
    assert refused(InvalidField, top_logprobs=5).param == "top_logprobs"


def test_response_format_becomes_the_constraint() -> None:
    assert parse(response_format={"type": "text"}).request.constraint is None
    found = parse(response_format={"type": "json_object"}).request.constraint
    assert found is not None
    assert found.kind is ConstraintKind.JSON_OBJECT


def test_a_form_of_the_text_and_tools_go_together() -> None:
    request = parse(tools=[LOOK_UP], response_format={"type": "json_object"}).request
    assert request.constraint is not None
    assert request.tools[0].name == "look_up"


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "text", "content": "x"}, "prediction.type"),
        ({"type": "content"}, "prediction.content"),
        ({"type": "content", "content": "x", "more": 1}, "prediction.more"),
    ],
)
def test_a_prediction_that_is_none_is_refused_by_name(value: object, param: str) -> None:
    assert refused(RequestError, prediction=value).param == param


# --- before tools -----------------------------------------------------------------------------

LOOKING = {"role": "assistant", "content": None, "function_call": {"name": "look_up", "arguments": "{}"}}
FOUND = {"role": "function", "name": "look_up", "content": "it is here"}
FUNCTION = LOOK_UP["function"]


def test_functions_are_tools_of_which_one_is_called_at_a_time() -> None:
    ask = parse(functions=[FUNCTION], function_call={"name": "look_up"})
    modern = parse(tools=[LOOK_UP], tool_choice={"type": "function", "function": {"name": "look_up"}})
    assert (ask.request.tools, ask.request.tool_choice) == (modern.request.tools, modern.request.tool_choice)
    assert ask.request.parallel_tool_calls is False
    assert ask.echo == {"functions": True}
    assert parse(functions=[FUNCTION], function_call="none").request.tool_choice.mode is ToolMode.NONE
    assert parse(functions=[FUNCTION]).request.tool_choice.mode is ToolMode.AUTO


def test_a_call_and_its_result_find_each_other_by_the_functions_name() -> None:
    again = {"role": "assistant", "content": None, "function_call": {"name": "look_up", "arguments": '{"a": 1}'}}
    read = parse(messages=[HI, LOOKING, FOUND, again, FOUND]).request.messages
    assert [message.role for message in read[1:]] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.TOOL]
    assert [message.tool_calls[0].arguments for message in (read[1], read[3])] == ["{}", '{"a": 1}']
    ids = [message.tool_calls[0].id for message in (read[1], read[3])]
    assert [read[2].tool_call_id, read[4].tool_call_id] == ids
    assert len({*ids}) == 2
    assert read[2].name == "look_up"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [FUNCTION], "tools": [LOOK_UP]}, "functions"),
        ({"functions": [FUNCTION], "tool_choice": "auto"}, "functions"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "f", "more": 1}]}, "functions[0].more"),
        ({"functions": [FUNCTION], "function_call": {"name": "other"}}, "tool_choice"),
        ({"functions": [FUNCTION], "function_call": 3}, "function_call"),
        ({"function_call": {"name": "look_up"}}, "function_call"),
        ({"messages": [HI, FOUND]}, "messages[1].name"),
        ({"messages": [HI, LOOKING | {"function_call": "look_up"}]}, "messages[1].function_call"),
        ({"messages": [HI, LOOKING | {"function_call": {"name": "f"}}]}, "messages[1].function_call.arguments"),
        ({"messages": [HI, LOOKING | {"tool_calls": [CALLED]}]}, "messages[1].function_call"),
        ({"messages": [HI, HI | {"function_call": LOOKING["function_call"]}]}, "messages[1].tool_calls"),
    ],
)
def test_what_is_wrong_with_functions_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(RequestError, **fields).param == param


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({}, Keep()),
        ({"store": False, "async_mode": None}, Keep()),
        ({"store": True}, Keep(store=True)),
        ({"async_mode": True}, Keep(background=True)),
        ({"store": True, "template": "t"}, Keep(store=True, template=TemplateUse("t", None, {}))),
    ],
)
def test_what_is_to_be_kept_is_told(sent: dict[str, object], kept: Keep) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **sent}).encode()
    assert parse_chat(body, Asker(RequestId("r"), OWNER)).keep == kept
