"""Bodies of ``/v1/messages`` and ``/v1/messages/count_tokens``."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.messages.schema import parse_count, parse_messages
from meshnode.api.schema import Ask, Asker, Keep, TemplateUse
from meshnode.domain import OWNER, CallerId, ConstraintKind, Kind, RequestId, Role, Sampling, Stopping, ToolMode
from meshnode.errors import InvalidField, MalformedBody, RequestError, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("req_1"), CallerId("key:1"))
HI = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": HI}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CODING_AGENT: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 32000,
    "stream": True,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=00000;"},
        {"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "do", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": [{"type": "text", "text": "reminder"}]},
    ],
    "tools": [TOOL | {"eager_input_streaming": True}, {"type": "web_search_20250305", "name": "web_search"}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "medium"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": "user_1_account__session_2"},
}


def parse(asker: Asker = ASKER, **fields: Any) -> Ask:
    return parse_messages(json.dumps(BODY | fields).encode(), asker)


def test_the_smallest_request() -> None:
    ask = parse()
    request = ask.request
    assert (request.id, request.caller, request.model, request.kind) == ("req_1", "key:1", "m", Kind.GENERATE)
    assert [(each.role, len(each.parts)) for each in request.messages] == [(Role.USER, 1)]
    assert request.stopping == Stopping(max_tokens=5)
    assert request.sampling == Sampling()
    assert json.loads(request.template_kwargs) == {"enable_thinking": False}
    assert (ask.stream, ask.model) == (False, "m")
    assert ask.echo == {"max_tokens": 5, "stop_sequences": []}


def test_a_coding_agents_request() -> None:
    ask = parse(**CODING_AGENT)
    request = ask.request
    assert ask.stream
    assert [each.role for each in request.messages] == [Role.SYSTEM, Role.USER, Role.SYSTEM]
    assert [tool.name for tool in request.tools] == ["f"]
    assert request.reasoning_effort == "medium"
    assert json.loads(request.template_kwargs) == {"enable_thinking": True}
    assert ask.echo == {
        "max_tokens": 32000,
        "stop_sequences": [],
        "edits": True,
        "notes": ["tools[1] of type web_search_20250305 is not served here; it was left out."],
    }


def test_how_to_sample_and_when_to_stop() -> None:
    request = parse(temperature=0.2, top_p=0.5, top_k=3, min_p=0.1, seed=7, stop_sequences=["END", "\n\n"]).request
    assert request.sampling == Sampling(temperature=0.2, top_p=0.5, top_k=3, min_p=0.1, seed=7)
    assert request.stopping.stop == ("END", "\n\n")


def test_tools_and_the_choice_among_them() -> None:
    forced = {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    request = parse(tools=[TOOL], tool_choice=forced).request
    assert (request.tool_choice.mode, request.tool_choice.names) == (ToolMode.REQUIRED, ("f",))
    assert not request.parallel_tool_calls


def test_max_tokens_of_nothing_only_reads_the_prompt() -> None:
    ask = parse(max_tokens=0)
    assert (ask.request.stopping.max_tokens, ask.echo["max_tokens"]) == (1, 0)


def test_a_form_by_the_names_of_others() -> None:
    form = parse(grammar='root ::= "a"').request.constraint
    assert form is not None
    assert (form.kind, form.source) == (ConstraintKind.GRAMMAR, 'root ::= "a"')
    with pytest.raises(InvalidField):
        parse(grammar="x", output_format={"type": "json_schema", "schema": {}})


def test_a_stored_prompt_goes_before_or_instead_of_messages() -> None:
    use = TemplateUse("greet", 2, {"name": "Ann"})
    asked = parse(messages=None, template="greet@2", variables={"name": "Ann"})
    assert (asked.keep.template, asked.request.messages) == (use, ())
    body = json.dumps({"template": "greet@2", "variables": {"name": "Ann"}, "messages": HI, "store": True}).encode()
    counted = parse_count(body, ASKER)
    assert counted.keep == Keep(template=use)
    assert len(counted.request.messages) == 1


def test_a_conversation_may_be_shortened_where_that_is_asked_for() -> None:
    assert parse(transforms=["middle-out"]).request.transforms == ("middle-out",)
    assert parse(plugins=[{"id": "context-compression"}]).request.transforms == ("middle-out",)
    assert parse(transforms=[]).request.transforms == ()


def test_what_is_to_be_kept() -> None:
    assert parse(store=True).keep == Keep(store=True)
    assert parse().keep == Keep()


def test_ours_beside_them() -> None:
    request = parse(session_id="s", deadline_ms=1500, chat_template_kwargs={"enable_thinking": True, "x": 1}).request
    assert (request.session, request.deadline_s) == ("s", 1.5)
    assert json.loads(request.template_kwargs) == {"enable_thinking": True, "x": 1}
    assert parse(model=None).model is None


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ({}, None),
        ({"x-claude-code-session-id": "c"}, "c"),
        ({"x-claude-code-session-id": "c", "x-session-id": "x"}, None),
    ],
)
def test_the_session_of_a_coding_agent_is_known_by_its_header(headers: dict[str, str], session: str | None) -> None:
    assert parse(ASKER._replace(headers=headers)).request.session == session
    assert parse(ASKER._replace(headers=headers), session_id="s").request.session == "s"


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"messages": []}, InvalidField, "messages"),
        ({"messages": "hi"}, InvalidField, "messages"),
        ({"max_tokens": None}, InvalidField, "max_tokens"),
        ({"max_tokens": -1}, InvalidField, "max_tokens"),
        ({"max_tokens": 1.5}, InvalidField, "max_tokens"),
        ({"temperature": 2.5}, InvalidField, "temperature"),
        ({"stop_sequences": "END"}, InvalidField, "stop_sequences"),
        ({"stop_sequences": [""]}, InvalidField, "stop_sequences[0]"),
        ({"system": 3}, InvalidField, "system"),
        ({"system": [{"type": "image"}]}, UnsupportedParameter, "system[0].image"),
        ({"metadata": {"user": "x"}}, UnknownField, "metadata.user"),
        ({"metadata": {"user_id": 3}}, InvalidField, "metadata.user_id"),
        ({"metadata": "x"}, InvalidField, "metadata"),
        ({"tools": {}}, InvalidField, "tools"),
        ({"tool_choice": "auto"}, InvalidField, "tool_choice"),
        ({"thinking": True}, InvalidField, "thinking"),
        ({"speed": "slow"}, InvalidField, "speed"),
        ({"max_token": 5}, UnknownField, "max_token"),
        ({"mcp_servers": [{"url": "x"}]}, UnsupportedParameter, "mcp_servers"),
    ],
)
def test_errors_name_the_field(fields: dict[str, Any], error: type[RequestError], param: str) -> None:
    with pytest.raises(error) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_a_body_without_its_needs_says_so() -> None:
    for missing in ("messages", "max_tokens"):
        body = {name: value for name, value in BODY.items() if name != missing}
        with pytest.raises(InvalidField, match=f"^{missing} is missing") as caught:
            parse_messages(json.dumps(body).encode(), ASKER)
        assert caught.value.param == missing
    with pytest.raises(MalformedBody):
        parse_messages(b"{", ASKER)


def test_a_count_needs_no_max_tokens_and_is_of_the_same_prompt() -> None:
    body = {name: value for name, value in CODING_AGENT.items() if name not in ("max_tokens", "stream")}
    ask = parse_count(json.dumps(body).encode(), ASKER)
    asked = parse(**CODING_AGENT).request
    assert ask.request.kind is Kind.COUNT
    assert not ask.stream
    assert (ask.request.messages, ask.request.tools) == (asked.messages, asked.tools)
    assert ask.request.template_kwargs == asked.template_kwargs
    assert not parse_count(json.dumps(CODING_AGENT).encode(), ASKER).stream


VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.just({}), max_size=2)
)
NAMES = st.sampled_from([*CODING_AGENT, "stop_sequences", "output_format", "diagnostics", "n", "container", "nix"])
OWNERS = Asker(RequestId("r"), OWNER)


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(st.sampled_from(["type", "name", "role"]), VALUES), max_size=4))
def test_whatever_is_sent_ends_in_a_request_or_an_error_of_ours(fields: dict[str, Any]) -> None:
    with suppress(RequestError):
        assert parse(OWNERS, **fields).request.messages is not None


def test_a_form_of_the_text_and_tools_go_together() -> None:
    request = parse(tools=[TOOL], output_format={"type": "json_schema", "schema": {}}).request
    assert request.constraint is not None
    assert request.tools
