"""Calls written as JSON, name and all: ``{"name": …, "arguments": {…}}``, alone, in a row or in a list. Pure.

Hermes and Qwen put one between ``<tool_call>`` and ``</tool_call>``; Mistral, Granite, Nemotron, Command-R and others a
list after their mark; Llama 3 and models without a syntax write the bare object, or fence it. Keys may come in any
order; arguments are handed on as they come once the name is known. Arguments in a JSON string, as models learn them
from OpenAI's API, are taken out of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import Lark
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.reading import Reading
from meshnode.engine.replies.tape import Malformed, Steps

_NAMES: Final = ("name", "tool_name", "function_name")
_ARGUMENTS: Final = ("arguments", "parameters")
_WITHIN: Final = ("function", "tool_call", "tool_calls", "function_call")
"""Keys under which the call stands itself."""
_SKIPPED: Final = ("id", "type", "tool_call_id", "call_id", "index")


@dataclass(frozen=True)
class JsonCalls:
    """``closes`` end it, if they come; ``key`` and ``held`` are what its model calls name and arguments.

    ``named``: the name is the key of the arguments. ``whole``: a call must have arguments to be one, where nothing but
    the JSON says that it is a call. ``listed``: forced calls stand in a list.
    """

    closes: tuple[str, ...] = ()
    key: str = "name"
    held: str = "arguments"
    named: bool = False
    whole: bool = False
    listed: bool = False
    lead: str = ""
    """White space that a model writes after the opening mark; likewise before the closing one."""
    trail: str = ""

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""
        return self.closes

    # --- reading -----------------------------------------------------------------------------------

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """One call or several, then ``closes``; ``mark`` may be the first character of the JSON itself."""
        tape = reading.tape
        first = mark[-1] if mark[-1:] in ("{", "[") else (yield from tape.expect("{", "["))
        while True:
            if first == "[":
                yield from self._items(reading)
            else:
                yield from self._object(reading)
            tape.forget()
            yield from tape.white()
            if self.closes and (yield from tape.match(self.closes, cut=True)):
                return
            if not (yield from self._another(reading)):
                return
            first = yield from tape.expect("{", "[")

    def _another(self, reading: Reading) -> Steps[bool]:
        """Whether one more call follows in the same row: at once, or after a comma or semicolon."""
        between = yield from reading.tape.match((",", ";"))
        yield from reading.tape.white()
        follows = (yield from reading.tape.peek()) in ("{", "[")
        if between and not follows:
            raise Malformed
        return follows

    def _items(self, reading: Reading) -> Steps[None]:
        """The rest of a list of calls."""
        tape = reading.tape
        while True:
            found = yield from tape.expect("{", "]")
            if found == "]":
                if not reading.voice.calls:
                    raise Malformed
                return
            yield from self._object(reading)
            tape.forget()
            if (yield from tape.expect(",", "]")) == "]":
                return

    def _object(self, reading: Reading, depth: int = 0) -> Steps[None]:
        """The rest of an object that is a call, or has one within."""
        tape = reading.tape
        call = _Call(self, reading)
        if (yield from tape.expect('"', "}")) == "}":
            raise Malformed
        while True:
            key = yield from _text(reading, '"')
            yield from tape.expect(":")
            yield from tape.white()
            yield from self._member(reading, call, key, depth)
            if (yield from tape.expect(",", "}")) == "}":
                break
            yield from tape.expect('"')
        call.end()

    def _member(self, reading: Reading, call: _Call, key: str, depth: int) -> Steps[None]:
        first = yield from reading.tape.peek()
        if self.named and not call.began and reading.offered.resolve(key):
            call.name = key
            yield from call.arguments()
        elif key in (*_NAMES, "function") and first == '"':
            call.name = yield from _text(reading)
        elif key in _ARGUMENTS:
            yield from call.arguments()
        elif key in _WITHIN and first in ("{", "[") and not depth:
            reading.tape.skip()
            yield from self._items(reading) if first == "[" else self._object(reading, 1)
            call.within = True
        elif key in _SKIPPED:
            yield from _value(reading)
        else:
            raise Malformed

    # --- forcing -----------------------------------------------------------------------------------

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """One call of ``tools``, or several, up to and with the closing mark; another section needs the mark again."""
        call = " | ".join(self._forced(lark, tool) for tool in tools)
        one = lark.rule("call", call)
        first = mark[-1] if mark[-1:] in ("{", "[") else ""
        if self.listed:
            more = f"({lark.text(', ')} {one})*" if many else ""
            start = "" if first else lark.text(self.lead + "[")
            body = f"{start} {one} {more} {lark.text(']' + self.trail)}"
        else:
            body = f"{lark.text(self.lead)} {one} {lark.text(self.trail)}"
        return f"{body} {lark.text(self.closes[0]) if self.closes else ''}"

    def _forced(self, lark: Lark, tool: Tool) -> str:
        name = json.dumps(tool.name, ensure_ascii=False)
        if self.named:
            return f"{lark.text('{' + name + ': ')} {lark.arguments(tool)} {lark.text('}')}"
        head = "{" + json.dumps(self.key) + ": " + name + ", " + json.dumps(self.held) + ": "
        return f"{lark.text(head)} {lark.arguments(tool)} {lark.text('}')}"


class _Call:
    """One call while its object is read."""

    def __init__(self, syntax: JsonCalls, reading: Reading) -> None:
        self.name = ""
        self.began = False
        self.within = False
        self._syntax = syntax
        self._reading = reading
        self._held: str | None = None

    def arguments(self) -> Steps[None]:
        """The value of the arguments, handed on at once if the name is known."""
        if self.began or self._held is not None:
            raise Malformed
        first = yield from self._reading.tape.peek()
        if first == "{" and self.name:
            self._begin()
            yield from self._reading.tape.pull(JsonScan("{"), self._reading.arguments)
            return
        held = yield from _value(self._reading)
        self._held = _unwrapped(held)
        if self.name:
            self._begin(self._held)

    def end(self) -> None:
        """The object is over. Raises Malformed if it was no call."""
        if self.began or self.within:
            return
        if not self.name or (self._syntax.whole and self._held is None):
            raise Malformed
        self._begin(self._held or "{}")

    def _begin(self, arguments: str = "") -> None:
        self._reading.begin(self.name)
        self.began = True
        if arguments:
            self._reading.arguments(arguments)


def _unwrapped(value: str) -> str:
    """The arguments that a JSON value means. Raises Malformed if it is no object, and none in a string or null."""
    decoded = json.loads(value) if value[:1] in '"n' else None
    if decoded is None and value[:1] == "n":
        return "{}"
    inner = decoded.strip() if isinstance(decoded, str) else value
    scan = JsonScan("{")
    end, made = scan.feed(inner, 0)
    if not scan.done or end < len(inner):
        raise Malformed
    return made


def _value(reading: Reading) -> Steps[str]:
    """A whole JSON value of any kind."""
    parts: list[str] = []
    scan = JsonScan()
    if not (yield from reading.tape.pull(scan, parts.append)):
        raise Malformed
    return "".join(parts)


def _text(reading: Reading, opened: str = "") -> Steps[str]:
    """A JSON string, decoded; ``opened`` is its quote where that was read already."""
    scan = JsonScan('"')
    if opened:
        scan.feed(opened, 0)
    parts = [opened]
    if not (yield from reading.tape.pull(scan, parts.append)):
        raise Malformed
    return str(json.loads("".join(parts)))
