"""Calls whose parameters each stand between tags: ``<parameter=city>Paris</parameter>``. Pure.

Qwen3-Coder, Seed, MiniMax M2, GLM, DeepSeek V3.2 and others write strings raw and everything else as JSON. What a value
is says the tool's schema: a parameter that can only be a string streams as it comes; any other waits until it is whole,
is taken as JSON if that is of a type the schema lets through, and as a string if not. Of what is a line of its own
between the tags, the line breaks next to them are not part of the value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import ANY_TEXT, Lark
from meshnode.engine.replies.json_calls import JsonCalls
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.offered import schema_of, type_of, types_of
from meshnode.engine.replies.reading import Reading
from meshnode.engine.replies.tape import Malformed, Steps

_STRING: Final = frozenset({"string"})
_UNSPOKEN: Final = ("pattern", "format", "minLength", "maxLength")
"""What raw text between tags cannot be held to."""


@dataclass(frozen=True)
class TaggedCalls:
    """``call`` + name + ``named``, then parameters, then one of ``closes``; ``section`` closes the opening mark's part.

    A parameter is ``parameter`` + its name + one of ``valued``, its value, ``ends``. ``typed`` maps an end of the name
    that says what the value is to whether it is a string (DeepSeek). Empty ``call``: the name follows the opening mark.
    ``wide``: a model writes line breaks between the tags and values.
    """

    call: str
    named: str
    parameter: str
    valued: tuple[str, ...]
    ends: str
    closes: tuple[str, ...]
    section: tuple[str, ...] = ()
    typed: tuple[tuple[str, bool], ...] = ()
    between: str = ""
    line: str = "\n"
    wide: str = "\n"

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""
        return (
            self.call,
            self.named,
            self.parameter,
            self.between,
            *self.valued,
            self.ends,
            *self.closes,
            *self.section,
        )

    # --- reading -----------------------------------------------------------------------------------

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """Calls up to the end of the section; ``mark`` may be that of a call itself."""
        tape = reading.tape
        yield from tape.white()
        if (yield from tape.peek()) in ("{", "[") and mark != self.call:
            yield from JsonCalls(closes=self.section or self.closes).read(reading, mark)
            return
        if self.call and mark != self.call:
            yield from tape.expect(self.call)
        while True:
            yield from self._one(reading)
            tape.forget()
            yield from tape.white()
            if not self.call or (yield from tape.match(self.section, cut=True)):
                return
            if not (yield from tape.match((self.call,))):
                return

    def _one(self, reading: Reading) -> Steps[None]:
        """A call from its name on."""
        tape = reading.tape
        ends = (self.named, *self.closes) if self.call else (self.parameter, "\n", *self.closes)
        word, end = yield from tape.word(ends)
        if end == "\n" and not self.call:
            end = yield from tape.expect(self.parameter, *self.closes)
        name = reading.begin(word)
        opened = end == self.parameter
        separator = "{"
        while end not in self.closes:
            if not opened:
                yield from tape.white()
                end = yield from tape.match((self.parameter, *self.closes), cut=True)
                if tape.ended and not end:
                    return
                if not end:
                    raise Malformed
                opened = end == self.parameter
                continue
            if not (yield from self._parameter(reading, name, separator)):
                return
            separator, opened = ", ", False
        reading.arguments("{}" if separator == "{" else "}")

    def _parameter(self, reading: Reading, name: str, separator: str) -> Steps[bool]:
        """One parameter from its name on; false if the reply ended in it."""
        tape = reading.tape
        key, end = yield from tape.word(self.valued)
        if self.between:
            yield from tape.expect(self.between)
        types = reading.offered.types(name, key.strip())
        typed = dict(self.typed).get(end)
        if typed is not None:
            types = _STRING if typed else types - _STRING or types
        head = separator + json.dumps(key.strip(), ensure_ascii=False) + ": "
        if types <= _STRING:
            return (yield from self._string(reading, head))
        return (yield from self._other(reading, head, types))

    def _string(self, reading: Reading, head: str) -> Steps[bool]:
        reading.arguments(head + '"')
        if self.line:
            yield from reading.tape.match((self.line,))
        end = yield from reading.tape.until(self._ends(), lambda text: reading.arguments(_escaped(text)))
        if end:
            reading.arguments('"')
        return bool(end)

    def _other(self, reading: Reading, head: str, types: frozenset[str]) -> Steps[bool]:
        parts: list[str] = []
        if self.line:
            yield from reading.tape.match((self.line,))
        end = yield from reading.tape.until(self._ends(), parts.append)
        value = "".join(parts)
        reading.arguments(head + (_json_of(value, types) if end else _begun(value)))
        return bool(end)

    def _ends(self) -> tuple[str, ...]:
        return (self.line + self.ends, self.ends) if self.line else (self.ends,)

    # --- forcing -----------------------------------------------------------------------------------

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """One call of ``tools``, or several, up to and with the end of the section."""
        spoken = [tool for tool in tools if mark == self.call or not self._unspoken(tool)]
        unspoken = [tool for tool in tools if tool not in spoken]
        ways = []
        if unspoken:
            whole = JsonCalls(closes=self.section or self.closes, lead=self.wide, trail=self.wide)
            ways.append(whole.force(lark, unspoken, mark, many=False))
        if spoken:
            one = lark.rule("call", " | ".join(self._forced(lark, tool, mark) for tool in spoken))
            more = f"({lark.text(self.wide)} {one})*" if many and self.section else ""
            # Line break and mark apart: a lexer that takes the longest word cannot turn back from their beginning.
            around = (
                (lark.text(self.wide), f"{lark.text(self.wide)} {lark.text(self.section[0])}")
                if self.section
                else ("", "")
            )
            ways.append(f"{around[0]} {one} {more} {around[1]}")
        return lark.rule("section", " | ".join(ways))

    def _unspoken(self, tool: Tool) -> bool:
        """Whether a strict tool's schema holds a string to more than raw text between tags can be held to."""
        properties = schema_of(tool).get("properties")
        return tool.strict and any(word in json.dumps(properties) for word in (f'"{each}":' for each in _UNSPOKEN))

    def _forced(self, lark: Lark, tool: Tool, mark: str) -> str:
        schema = schema_of(tool)
        properties = schema.get("properties") if isinstance(schema.get("properties"), dict) else {}
        required = schema.get("required") or ()
        call = "" if mark == self.call else self.call
        parts = [lark.text(call + tool.name + self.named + self.wide)]
        for key, inner in (properties or {}).items():
            one = self._forced_parameter(lark, tool, key, inner, schema)
            parts.append(one if key in required else f"({one})?")
        return " ".join((*parts, lark.text(self.closes[0])))

    def _forced_parameter(self, lark: Lark, tool: Tool, key: str, schema: Any, root: dict[str, Any]) -> str:
        types = types_of(schema, root)
        valued = self.valued[0]
        if self.typed:
            valued = next(end for end, string in self.typed if string == ("string" in types))
        between = self.wide + self.between if self.between else ""
        head = lark.text(self.parameter + key + valued + between + self.line)
        stop = self.line + self.ends
        if "string" not in types:
            defs = {word: root[word] for word in ("$defs", "definitions") if word in root}
            value = lark.json((schema if isinstance(schema, dict) else {}) | defs, strict=tool.strict)
            return f"{head} {value} {lark.text(stop + self.wide)}"
        if isinstance(schema, dict) and ("enum" in schema or "const" in schema):
            chosen = schema["enum"] if "enum" in schema else [schema["const"]]
            words = [each if isinstance(each, str) else json.dumps(each) for each in chosen]
            value = " | ".join(lark.text(word + stop + self.wide) for word in words)
            return f"{head} ({value})"
        raw = lark.rule("raw", ANY_TEXT, f"[suffix={json.dumps(stop, ensure_ascii=False)}]")
        return f"{head} {raw} {lark.text(self.wide)}"


def _escaped(text: str) -> str:
    """Text as the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_of(value: str, types: frozenset[str]) -> str:
    """A whole value as JSON: itself if it is that, of a type that may be; a string otherwise."""
    text = value.strip()
    scan = JsonScan()
    try:
        # A number ends only with the character after it.
        end, made = scan.feed(text + " ", 0)
    except Malformed:
        end, made = 0, ""
    if scan.done and end >= len(text):
        kind = type_of(json.loads(made))
        if kind in types - _STRING or (kind == "integer" and "number" in types):
            return made.strip()
    return _python_word(text, types) or json.dumps(value, ensure_ascii=False)


def _python_word(text: str, types: frozenset[str]) -> str:
    """``True``, ``False`` and ``None`` as templates that print Python values teach them."""
    word, kind = {"True": ("true", "boolean"), "False": ("false", "boolean"), "None": ("null", "null")}.get(
        text, ("", "")
    )
    return word if kind in types else ""


def _begun(value: str) -> str:
    """What was written of a value that was cut, as the beginning of JSON."""
    try:
        end, made = JsonScan().feed(value, 0)
    except Malformed:
        end, made = 0, ""
    return made if value and end == len(value) else f'"{_escaped(value)}' if value else ""
