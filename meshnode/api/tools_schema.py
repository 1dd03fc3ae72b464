"""``tools`` and ``tool_choice`` of a chat request, and the calls in its messages ⇄ the domain. Pure.

Source: OpenAI's API reference for chat completions. Only tools of type ``function`` exist in this dialect's open part;
others are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import check_names, convert, invalid, text, unsupported
from meshnode.domain import Tool, ToolCall, ToolChoice, ToolMode
from meshnode.errors import InvalidField

MAX_TOOLS: Final = 128
MAX_PARAMETERS: Final = 1 << 20
"""Characters of one tool's schema."""

Name = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$", description="1 to 64 letters, digits, _, . or -")]


class FunctionFields(msgspec.Struct, kw_only=True):
    """``tools[].function``."""

    name: Name
    description: Annotated[str, text(65536)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolFields(msgspec.Struct, kw_only=True):
    """``tools[]``."""

    type: str
    function: dict[str, Any] | None = None


class CalledFields(msgspec.Struct, kw_only=True):
    """``messages[].tool_calls[].function``."""

    name: Name
    arguments: str


class CallFields(msgspec.Struct, kw_only=True):
    """``messages[].tool_calls[]``; ``index`` is what a stream's deltas have and some clients send back."""

    id: Annotated[str, text(256)]
    function: dict[str, Any]
    type: Literal["function"] = "function"
    index: int | None = None


class NamedFields(msgspec.Struct, kw_only=True):
    """``{"name": …}``: one function that is meant."""

    name: Name


class AllowedFields(msgspec.Struct, kw_only=True):
    """``tool_choice.allowed_tools``."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_TOOLS)]


class ChoiceFields(msgspec.Struct, kw_only=True):
    """``tool_choice`` as an object."""

    type: Literal["function", "allowed_tools"]
    function: dict[str, Any] | None = None
    allowed_tools: dict[str, Any] | None = None


def tools(raw: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools offered. Raises InvalidField, UnknownField or UnsupportedParameter, which name the tool."""
    found = tuple(_tool(one, f"tools[{index}]") for index, one in enumerate(raw))
    names = [tool.name for tool in found]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InvalidField(
            f"tools: two of them are called {twice}.", hint="Give each a name of its own.", param="tools"
        )
    return found


def _tool(raw: Mapping[str, Any], path: str) -> Tool:
    kind = raw.get("type")
    if isinstance(kind, str) and kind != "function":
        raise unsupported(f"{path}.type", "Send tools of type function.", what=f" {kind[:32]!r}")
    check_names(raw, ToolFields, {}, path=path)
    function = _object(convert(raw, ToolFields, path=path).function, f"{path}.function")
    check_names(function, FunctionFields, {}, path=f"{path}.function")
    fields = convert(function, FunctionFields, path=f"{path}.function")
    parameters = "{}" if fields.parameters is None else json.dumps(fields.parameters, ensure_ascii=False)
    if len(parameters) > MAX_PARAMETERS:
        allowed = f"a schema of at most {MAX_PARAMETERS} characters"
        raise invalid(f"{path}.function.parameters", fields.parameters, allowed)
    return Tool(
        name=fields.name,
        description=fields.description or "",
        parameters=parameters,
        strict=fields.strict is True,
    )


def tool_choice(raw: object, offered: Sequence[Tool]) -> ToolChoice:
    """How far the model may choose. Raises InvalidField where it names what is not offered."""
    if raw is None:
        return ToolChoice()
    if isinstance(raw, str):
        if raw not in list(ToolMode):
            raise invalid("tool_choice", raw, "none, auto, required, or an object that names functions")
        choice = ToolChoice(mode=ToolMode(raw))
    elif isinstance(raw, dict):
        choice = _chosen(raw)
    else:
        raise invalid("tool_choice", raw, "none, auto, required, or an object that names functions")
    names = {tool.name for tool in offered}
    stranger = next((name for name in choice.names if name not in names), None)
    if stranger is not None:
        hint = f"Offered: {', '.join(sorted(names)[:8]) or 'none'}."
        raise InvalidField(f"tool_choice: {stranger} is not among the tools.", hint=hint, param="tool_choice")
    if choice.mode is ToolMode.REQUIRED and not offered:
        raise InvalidField("tool_choice asks for a call, but there are no tools.", param="tool_choice")
    return choice


def _chosen(raw: Mapping[str, Any]) -> ToolChoice:
    path = "tool_choice"
    check_names(raw, ChoiceFields, {}, path=path)
    fields = convert(raw, ChoiceFields, path=path)
    if fields.type == "function":
        return ToolChoice(mode=ToolMode.REQUIRED, names=(_named(fields.function, f"{path}.function"),))
    where = f"{path}.allowed_tools"
    raw_allowed = _object(fields.allowed_tools, where)
    check_names(raw_allowed, AllowedFields, {}, path=where)
    allowed = convert(raw_allowed, AllowedFields, path=where)
    names = []
    for index, one in enumerate(allowed.tools):
        check_names(one, ToolFields, {}, path=f"{where}.tools[{index}]")
        function = convert(one, ToolFields, path=f"{where}.tools[{index}]").function
        names.append(_named(function, f"{where}.tools[{index}].function"))
    return ToolChoice(mode=ToolMode(allowed.mode), names=tuple(dict.fromkeys(names)))


def _named(raw: object, path: str) -> str:
    named = _object(raw, path)
    check_names(named, NamedFields, {}, path=path)
    return convert(named, NamedFields, path=path).name


def _object(raw: object, path: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise invalid(path, raw, "an object")
    return raw


def tool_calls(raw: Sequence[Mapping[str, Any]], path: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message. Raises InvalidField or UnknownField."""
    found = []
    for index, one in enumerate(raw):
        where = f"{path}[{index}]"
        check_names(one, CallFields, {}, path=where)
        call = convert(one, CallFields, path=where)
        check_names(call.function, CalledFields, {}, path=f"{where}.function")
        called = convert(call.function, CalledFields, path=f"{where}.function")
        found.append(ToolCall(id=call.id, name=called.name, arguments=called.arguments))
    return tuple(found)
