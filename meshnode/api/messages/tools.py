"""``tools`` and ``tool_choice`` of a messages request ⇄ the domain. Pure.

Source: Anthropic's API reference, "Create a Message". Tools that have a ``type`` of their own (web search, code
execution, text editor …) are run by Anthropic's servers or known to its models by heart; nobody here has them, so they
are left out and the answer says so, as coding agents offer them beside those that matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from meshnode.api.fields import convert, invalid, text
from meshnode.api.messages.blocks import Raw, read
from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.errors import InvalidField

MOST_TOOLS: Final = 512
MOST_SCHEMA: Final = 1 << 20
"""Characters of one tool's schema."""
MOST_EXAMPLES: Final = 20

Name = Annotated[
    str, msgspec.Meta(pattern="^[a-zA-Z0-9_.-]{1,128}$", description="1 to 128 letters, digits, _, . or -")
]
Tools = Annotated[
    list[dict[str, Any]], msgspec.Meta(max_length=MOST_TOOLS, description=f"an array of at most {MOST_TOOLS} tools")
]


class ToolFields(msgspec.Struct, kw_only=True):
    """A tool of the client's own; what changes nothing here is in :data:`meshnode.api.messages.reasons.NO_EFFECT`."""

    name: Name
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: Annotated[str, text(65536)] | None = None
    strict: bool | None = None
    input_examples: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MOST_EXAMPLES)] | None = None
    allowed_callers: list[str] | None = None
    cache_control: dict[str, Any] | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None


class TypeFields(msgspec.Struct):
    """What is read of a tool that nobody here has."""

    type: Annotated[str, text(64)] | None = None


class ChoiceFields(msgspec.Struct, kw_only=True):
    """``tool_choice``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Offer(NamedTuple):
    """The tools that a model is offered, and notes on those that it is not."""

    tools: tuple[Tool, ...]
    notes: tuple[str, ...]


def offer(raw: Sequence[Raw]) -> Offer:
    """What is offered. Raises InvalidField or UnknownField, which name the tool."""
    found: dict[str, Tool] = {}
    notes: list[str] = []
    for index, one in enumerate(raw):
        path = f"tools[{index}]"
        kind = convert(one, TypeFields, path=path).type
        if kind not in (None, "custom"):
            notes.append(f"{path} of type {_plain(str(kind))} is not served here; it was left out.")
            continue
        fields = read(one, ToolFields, path)
        if fields.allowed_callers is not None and "direct" not in fields.allowed_callers:
            notes.append(f"{path} may not be called by the model itself (allowed_callers); it was left out.")
            continue
        if fields.name in found:
            hint = "Give each a name of its own."
            raise InvalidField(f"tools: two of them are called {fields.name}.", hint=hint, param="tools")
        found[fields.name] = _tool(fields, path)
    return Offer(tuple(found.values()), tuple(notes))


def choice(raw: Raw | None, offered: Sequence[Tool]) -> tuple[ToolChoice, bool]:
    """How far the model may choose, and whether it may call several at once. Raises InvalidField, UnknownField."""
    if raw is None:
        return ToolChoice(), True
    fields = read(raw, ChoiceFields, "tool_choice")
    parallel = not fields.disable_parallel_tool_use
    if fields.name is not None and fields.type != "tool":
        raise invalid("tool_choice.name", fields.name, "left out, unless the type is tool")
    if fields.type in ("auto", "none"):
        return ToolChoice(mode=ToolMode(fields.type)), parallel
    if not offered:
        raise InvalidField("tool_choice asks for a call, but there are no tools.", param="tool_choice")
    if fields.type == "any":
        return ToolChoice(mode=ToolMode.REQUIRED), parallel
    names = sorted(tool.name for tool in offered)
    if fields.name not in names:
        raise invalid("tool_choice.name", fields.name, f"the name of a tool offered: {', '.join(names[:8])}")
    return ToolChoice(mode=ToolMode.REQUIRED, names=(fields.name,)), parallel


def _tool(fields: ToolFields, path: str) -> Tool:
    schema = json.dumps(fields.input_schema, ensure_ascii=False)
    if len(schema) > MOST_SCHEMA:
        raise invalid(f"{path}.input_schema", fields.input_schema, f"a schema of at most {MOST_SCHEMA} characters")
    return Tool(name=fields.name, description=_described(fields), parameters=schema, strict=fields.strict is True)


def _described(fields: ToolFields) -> str:
    """The description, with the examples of input that came with the tool."""
    examples = [f"Example: {json.dumps(one, ensure_ascii=False)}" for one in fields.input_examples or ()]
    return "\n".join(filter(None, [fields.description or "", *examples]))


def _plain(kind: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-.") else "?" for char in kind)
