"""OpenAI's deprecated ``functions`` and ``function_call``, said in the words that took their place. Pure.

Source: OpenAI's API reference for chat completions, deprecated fields. There is one call at most in an answer, and a
call has no id: a message of role ``function`` answers the last call of its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.fields import check_names, convert, invalid
from meshnode.api.tools_schema import CalledFields, FunctionFields, NamedFields
from meshnode.errors import InvalidField


def as_tools(functions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``functions`` as ``tools``. Raises UnknownField or InvalidField, which name the function."""
    for index, function in enumerate(functions):
        check_names(function, FunctionFields, {}, path=f"functions[{index}]")
        convert(function, FunctionFields, path=f"functions[{index}]")
    return [{"type": "function", "function": dict(function)} for function in functions]


def as_tool_choice(function_call: object) -> object:
    """``function_call`` of a request as ``tool_choice``. Raises UnknownField or InvalidField."""
    if function_call in (None, "none", "auto"):
        return function_call
    if not isinstance(function_call, dict):
        raise invalid("function_call", function_call, "none, auto, or an object with the name of a function")
    check_names(function_call, NamedFields, {}, path="function_call")
    convert(function_call, NamedFields, path="function_call")
    return {"type": "function", "function": function_call}


def as_tool_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages, those with a ``function_call`` or of role ``function`` as such with tools. Raises InvalidField."""
    said: list[Mapping[str, Any]] = []
    calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.get("role") == "function":
            said.append(_result(message, calls, where))
        elif message.get("function_call") is not None:
            name, call = _call(message, index, where)
            calls[name] = call["id"]
            rest = {key: value for key, value in message.items() if key != "function_call"}
            said.append(rest | {"tool_calls": [call]})
        else:
            said.append(message)
    return said


def _call(message: Mapping[str, Any], index: int, where: str) -> tuple[str, dict[str, Any]]:
    path, given = f"{where}.function_call", message["function_call"]
    if message.get("tool_calls"):
        raise InvalidField(f"{path} and tool_calls are both given.", hint="Send tool_calls.", param=path)
    if not isinstance(given, dict):
        raise invalid(path, given, "an object")
    check_names(given, CalledFields, {}, path=path)
    called = convert(given, CalledFields, path=path)
    function = {"name": called.name, "arguments": called.arguments}
    return called.name, {"id": f"call{index:05}", "type": "function", "function": function}


def _result(message: Mapping[str, Any], calls: Mapping[str, str], where: str) -> dict[str, Any]:
    name = message.get("name")
    if not isinstance(name, str) or name not in calls:
        raise invalid(f"{where}.name", name, "the name of a function that an earlier message calls")
    return {**message, "role": "tool", "tool_call_id": calls[name]}
