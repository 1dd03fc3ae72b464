"""``tools`` and ``tool_choice`` of a Responses request ⇄ the domain's functions. Pure.

Models call functions by one flat name. A tool of a namespace is offered as ``namespace__name`` and its call is told as
the SDK's types have it, with ``name`` and ``namespace`` apart. A custom tool takes plain text: it is offered as a
function of the one string ``input``. Tools that OpenAI runs itself (web search, code interpreter …) do not exist here:
they are left out of what the model is offered and of the answer's ``tools``, so that a client which offers them always
still gets its answer; choosing one is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from meshnode.api.fields import check_names, convert, invalid, text, unsupported
from meshnode.api.tools_schema import MAX_PARAMETERS, MAX_TOOLS, Name
from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.errors import InvalidField

INPUT: Final = "input"
"""The one parameter of a custom tool, as the model sees it."""
_MOST_NAME: Final = 64
_WAYS: Final = "none, auto, required, or an object that names tools"

Tools = Annotated[
    list[dict[str, Any]], msgspec.Meta(max_length=MAX_TOOLS, description=f"an array of at most {MAX_TOOLS} tools")
]
Description = Annotated[str, text(65536)]


class FunctionFields(msgspec.Struct, kw_only=True):
    """A tool of type ``function``; the last four steer what only OpenAI's own servers do."""

    type: Literal["function"]
    name: Name
    description: Description | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class CustomFields(msgspec.Struct, kw_only=True):
    """A tool of type ``custom``."""

    type: Literal["custom"]
    name: Name
    description: Description | None = None
    format: dict[str, Any] | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class GrammarFields(msgspec.Struct, kw_only=True):
    """``format`` of a custom tool."""

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: Annotated[str, text(MAX_PARAMETERS)] | None = None


class NamespaceFields(msgspec.Struct, kw_only=True):
    """A tool of type ``namespace``: functions and custom tools under one name."""

    type: Literal["namespace"]
    name: Name
    description: Description | None = None
    tools: Tools


class AllowedFields(msgspec.Struct, kw_only=True):
    """``tool_choice`` of type ``allowed_tools``."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[dict[str, Any]],
        msgspec.Meta(min_length=1, max_length=MAX_TOOLS, description=f"an array of 1 to {MAX_TOOLS} tools"),
    ]


class NamedFields(msgspec.Struct, kw_only=True):
    """A tool that is named, in ``tool_choice``."""

    type: Literal["function", "custom"]
    name: Name
    namespace: Name | None = None


class Offer(NamedTuple):
    """``tools`` as the model gets them and, one for one, ``called``: how a call of each is told.

    ``shown`` is what the answer's ``tools`` repeat; ``left_out`` are the types of those that do not exist here.
    """

    tools: tuple[Tool, ...] = ()
    called: tuple[Mapping[str, Any], ...] = ()
    shown: tuple[Mapping[str, Any], ...] = ()
    left_out: tuple[str, ...] = ()

    def telling(self) -> dict[str, Mapping[str, Any]]:
        """How calls are told whose telling is not simply the name, by the name the model knows."""
        plain = {"type": "function", "namespace": None}
        pairs = zip(self.tools, self.called, strict=True)
        return {tool.name: called for tool, called in pairs if called != plain | {"name": tool.name}}


def flat(name: str, namespace: str | None) -> str:
    """The name by which the model knows a tool; at most 64 characters, different for different tools."""
    if not namespace:
        return name
    joined = namespace + ("" if namespace.endswith("__") else "__") + name
    if len(joined) <= _MOST_NAME:
        return joined
    return joined[: _MOST_NAME - 9] + "_" + hashlib.sha256(joined.encode()).hexdigest()[:8]


def offer(raw: Sequence[Mapping[str, Any]], path: str = "tools") -> Offer:
    """The tools offered. Raises InvalidField or UnknownField, which name the tool."""
    found = [_offered(one, f"{path}[{index}]") for index, one in enumerate(raw)]
    joined = Offer(*(tuple(chain.from_iterable(fields)) for fields in zip(*found, strict=True)))
    names = [tool.name for tool in joined.tools]
    if len(names) > MAX_TOOLS:
        raise InvalidField(
            f"{path}: there are {len(names)}, those of namespaces counted.", hint=f"At most {MAX_TOOLS}.", param=path
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidField(f"{path}: two of them are called {twice}.", hint="Give each a name of its own.", param=path)
    return joined


def _offered(raw: Mapping[str, Any], path: str) -> Offer:
    kind = raw.get("type")
    if kind in ("function", "custom"):
        tool, called, shown = _tool(raw, path, None)
        return Offer((tool,), (called,), (shown,))
    if kind != "namespace":
        if not isinstance(kind, str):
            raise invalid(f"{path}.type", kind, "function, custom or namespace")
        return Offer(left_out=(kind[:64],))
    check_names(raw, NamespaceFields, {}, path=path)
    fields = convert(raw, NamespaceFields, path=path)
    within = [_tool(one, f"{path}.tools[{index}]", fields.name) for index, one in enumerate(fields.tools)]
    tools = [tool for tool, _, _ in within]
    if fields.description and tools:
        about = f"{fields.name}: {fields.description}\n{tools[0].description}".strip()
        tools[0] = msgspec.structs.replace(tools[0], description=about)
    group: dict[str, Any] = {"type": "namespace", "name": fields.name, "description": fields.description or ""}
    group["tools"] = [one for _, _, one in within]
    return Offer(tuple(tools), tuple(called for _, called, _ in within), (group,))


def _tool(
    raw: Mapping[str, Any], path: str, namespace: str | None
) -> tuple[Tool, Mapping[str, Any], Mapping[str, Any]]:
    """A tool, how its calls are told, and how the answer repeats it."""
    kind = raw.get("type")
    if kind == "custom":
        check_names(raw, CustomFields, {}, path=path)
        custom = convert(raw, CustomFields, path=path)
        shown: dict[str, Any] = {"type": "custom", "name": custom.name, "description": custom.description or ""}
        shown |= {} if custom.format is None else {"format": custom.format}
        return _custom(custom, path, namespace), _called("custom", custom.name, namespace), shown
    if kind != "function":
        raise invalid(f"{path}.type", kind, "function or custom")
    check_names(raw, FunctionFields, {}, path=path)
    fields = convert(raw, FunctionFields, path=path)
    parameters = "{}" if fields.parameters is None else json.dumps(fields.parameters, ensure_ascii=False)
    if len(parameters) > MAX_PARAMETERS:
        raise invalid(f"{path}.parameters", fields.parameters, f"a schema of at most {MAX_PARAMETERS} characters")
    tool = Tool(
        name=flat(fields.name, namespace),
        description=fields.description or "",
        parameters=parameters,
        strict=fields.strict is True,
    )
    return tool, _called("function", fields.name, namespace), _shown(fields)


def _shown(fields: FunctionFields) -> dict[str, Any]:
    return {
        "type": "function",
        "name": fields.name,
        "description": fields.description,
        "parameters": fields.parameters,
        "strict": fields.strict is True,
    }


def _called(kind: str, name: str, namespace: str | None) -> dict[str, Any]:
    return {"type": kind, "name": name, "namespace": namespace}


def _custom(fields: CustomFields, path: str, namespace: str | None) -> Tool:
    """A function of one string. A grammar is told to the model, not held: a call's arguments are JSON, not its text."""
    form = GrammarFields(type="text")
    if fields.format is not None:
        check_names(fields.format, GrammarFields, {}, path=f"{path}.format")
        form = convert(fields.format, GrammarFields, path=f"{path}.format")
    about = fields.description or ""
    if form.type == "grammar":
        if form.syntax is None or form.definition is None:
            missing = "syntax" if form.syntax is None else "definition"
            raise InvalidField(f"{path}.format.{missing} is missing.", param=f"{path}.format.{missing}")
        about += f"\nThe input must match this {form.syntax} grammar:\n{form.definition}"
    schema = {
        "type": "object",
        "properties": {INPUT: {"type": "string", "description": "The whole input, as plain text."}},
        "required": [INPUT],
        "additionalProperties": False,
    }
    return Tool(name=flat(fields.name, namespace), description=about.strip(), parameters=json.dumps(schema))


def choice(raw: object, offered: Offer) -> ToolChoice:
    """How far the model may choose. Raises InvalidField where it names what is not offered, UnsupportedParameter."""
    if raw is None:
        return ToolChoice()
    if isinstance(raw, str) and raw in list(ToolMode):
        found = ToolChoice(mode=ToolMode(raw))
    elif isinstance(raw, dict):
        found = _chosen(raw, offered)
    else:
        raise invalid("tool_choice", raw, _WAYS)
    if found.mode is ToolMode.REQUIRED and not offered.tools:
        raise InvalidField("tool_choice asks for a call, but there are no tools.", param="tool_choice")
    return found


def _chosen(raw: Mapping[str, Any], offered: Offer) -> ToolChoice:
    path = "tool_choice"
    if raw.get("type") in ("function", "custom"):
        return ToolChoice(mode=ToolMode.REQUIRED, names=(_named(raw, path, offered),))
    if raw.get("type") != "allowed_tools":
        raise _no_such(raw, path)
    check_names(raw, AllowedFields, {}, path=path)
    fields = convert(raw, AllowedFields, path=path)
    ours = [(one, f"{path}.tools[{index}]") for index, one in enumerate(fields.tools)]
    names = [_named(one, where, offered) for one, where in ours if one.get("type") in ("function", "custom")]
    if not names:
        raise _no_such(fields.tools[0], f"{path}.tools[0]")
    return ToolChoice(mode=ToolMode(fields.mode), names=tuple(dict.fromkeys(names)))


def _no_such(raw: Mapping[str, Any], path: str) -> Exception:
    kind = raw.get("type")
    if not isinstance(kind, str):
        return invalid(f"{path}.type", kind, "function, custom or allowed_tools")
    return unsupported(f"{path}.type", "Choose a function or a custom tool.", what=f" {kind[:32]!r}")


def _named(raw: Mapping[str, Any], path: str, offered: Offer) -> str:
    """The flat name of the tool meant; one of a namespace may be named without it where that is clear."""
    check_names(raw, NamedFields, {}, path=path)
    fields = convert(raw, NamedFields, path=path)
    wanted = flat(fields.name, fields.namespace)
    if any(tool.name == wanted for tool in offered.tools):
        return wanted
    pairs = zip(offered.tools, offered.called, strict=True)
    meant = [tool.name for tool, called in pairs if fields.namespace is None and called["name"] == fields.name]
    if len(meant) == 1:
        return meant[0]
    raise InvalidField(
        f"{path}: {wanted} is not among the tools." if not meant else f"{path}: {wanted} is in several namespaces.",
        hint=f"Offered: {_listed(tool.name for tool in offered.tools)}.",
        param=path,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none"
