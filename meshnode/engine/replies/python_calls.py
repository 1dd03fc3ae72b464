"""Calls written as in Python: ``[get_time(city="Paris"), ping()]``. Pure.

LFM2 writes a list of them, Llama 3 one after ``<|python_tag|>``, as ``name.call(…)``. Values are Python's or JSON's
literals, which become JSON as they come.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import Lark
from meshnode.engine.replies.json_calls import JsonCalls
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.reading import Reading
from meshnode.engine.replies.tape import Malformed, Steps

_WORDS: Final = {"True": "true", "true": "true", "False": "false", "false": "false", "None": "null", "null": "null"}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "", "0": "\0", "a": "\a", "v": "\v"}
_CODE: Final = ("python", "code_interpreter", "ipython")
"""Tools that take what stands after ``<|python_tag|>`` as code."""


@dataclass(frozen=True)
class PythonCalls:
    """``listed``: in square brackets; ``closes`` end it, if they come. ``codes``: what is no call may be code."""

    closes: tuple[str, ...] = ()
    listed: bool = True
    codes: bool = False

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""
        return self.closes

    # --- reading -----------------------------------------------------------------------------------

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """One call or several; or JSON, which some of these models write instead; or code. Raises Malformed."""
        tape = reading.tape
        yield from tape.white()
        first = yield from tape.peek()
        if first == "{":
            yield from JsonCalls(closes=self.closes, held="parameters").read(reading, mark)
            return
        if self.listed and first == "[":
            tape.skip()
            yield from tape.white()
            if (yield from tape.peek()) == "{":
                yield from JsonCalls(closes=self.closes).read(reading, "[")
                return
        yield from self._calls(reading)
        tape.forget()
        yield from tape.white()
        yield from tape.match(self.closes, cut=True)

    def _calls(self, reading: Reading) -> Steps[None]:
        tape = reading.tape
        while True:
            try:
                word, _ = yield from tape.word(("(",))
                reading.begin(word.strip().removesuffix(".call"))
            except Malformed:
                yield from self._code(reading)
                return
            yield from self._arguments(reading)
            tape.forget()
            yield from tape.white()
            if not self.listed or (yield from tape.match(("]",), cut=True)):
                return
            yield from tape.expect(",")
            yield from tape.white()

    def _code(self, reading: Reading) -> Steps[None]:
        """All that is left, as the argument of the tool that runs code. Raises Malformed if none is offered."""
        tool = next((name for name in _CODE if name in reading.offered.names), None)
        if tool is None or not self.codes or reading.voice.calls:
            raise Malformed
        begun = reading.tape.unsaid().removeprefix("<|python_tag|>")
        properties = reading.offered.schema(tool).get("properties")
        key = next(iter(properties), "code") if isinstance(properties, dict) else "code"
        reading.begin(tool)
        reading.arguments(f'{{{json.dumps(key)}: "{_escaped(begun)}')
        yield from reading.tape.until((), lambda text: reading.arguments(_escaped(text)))
        reading.arguments('"}')

    def _arguments(self, reading: Reading) -> Steps[None]:
        """Keyword arguments up to the closing parenthesis, as a JSON object."""
        tape = reading.tape
        separator = "{"
        while True:
            yield from tape.white()
            if (yield from tape.match((")",))):
                break
            key, _ = yield from tape.word(("=",))
            if not key.strip().isidentifier():
                raise Malformed
            reading.arguments(f"{separator}{json.dumps(key.strip(), ensure_ascii=False)}: ")
            separator = ", "
            yield from tape.white()
            yield from _value(reading)
            if (yield from tape.expect(",", ")")) == ")":
                break
        reading.arguments("{}" if separator == "{" else "}")

    # --- forcing -----------------------------------------------------------------------------------

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """The JSON way to say it, whose arguments a schema holds."""
        if self.listed:
            return JsonCalls(closes=self.closes, listed=True).force(lark, tools, mark, many=many)
        return JsonCalls(closes=self.closes, held="parameters").force(lark, tools, mark, many=False)


def _value(reading: Reading) -> Steps[None]:
    """One literal; brackets need no recursion. Raises Malformed."""
    tape = reading.tape
    closing: list[str] = []
    while True:
        yield from tape.white()
        first = yield from tape.peek()
        if first in ("[", "(", "{") and first:
            tape.skip()
            reading.arguments("{" if first == "{" else "[")
            closing.append({"[": "]", "(": ")", "{": "}"}[first])
            yield from tape.white()
            if not (yield from tape.match((closing[-1],))):
                if first == "{":
                    yield from _key(reading)
                continue
            _close(reading, closing)
        elif first in ('"', "'") and first:
            yield from _string(reading)
        else:
            yield from _plain(reading, first)
        while closing:
            end = yield from tape.expect(",", closing[-1])
            if end == ",":
                yield from tape.white()
                if not (yield from tape.match((closing[-1],))):
                    reading.arguments(", ")
                    if closing[-1] == "}":
                        yield from _key(reading)
                    break
            _close(reading, closing)
        if not closing:
            return


def _close(reading: Reading, closing: list[str]) -> None:
    reading.arguments("}" if closing.pop() == "}" else "]")


def _key(reading: Reading) -> Steps[None]:
    """The key of an object's member, with its colon."""
    if (yield from reading.tape.peek()) not in ('"', "'"):
        raise Malformed
    yield from _string(reading)
    yield from reading.tape.expect(":")
    reading.arguments(": ")


def _plain(reading: Reading, first: str) -> Steps[None]:
    """A number, or a word that stands for a value."""
    if first in ("T", "F", "N", "t", "f", "n") and first:
        word = yield from reading.tape.match(tuple(_WORDS))
        if not word:
            raise Malformed
        reading.arguments(_WORDS[word])
        return
    yield from reading.tape.pull(JsonScan("-0123456789"), reading.arguments)


def _string(reading: Reading) -> Steps[None]:
    """A string in either quotes, with Python's escapes that JSON has as well, and a few more."""
    tape = reading.tape
    quote = yield from tape.peek()
    tape.skip()
    reading.arguments('"')
    while True:
        found = yield from tape.until((quote, "\\"), lambda text: reading.arguments(_escaped(text)))
        if not found:
            return
        if found == quote:
            reading.arguments('"')
            return
        character = yield from tape.peek()
        if not character:
            return
        tape.skip()
        reading.arguments((yield from _unescaped(reading, character)))


def _unescaped(reading: Reading, character: str) -> Steps[str]:
    """What a backslash and ``character`` stand for, as the inside of a JSON string."""
    digits = {"x": 2, "u": 4, "U": 8}.get(character, 0)
    written = ""
    while digits and len(written) < digits:
        digit = yield from reading.tape.peek()
        if not digit or digit not in "0123456789abcdefABCDEF":
            return _escaped("\\" + character + written)
        written += digit
        reading.tape.skip()
    if written:
        number = int(written, 16)
        return f"\\u{number:04x}" if number <= 0xFFFF else _escaped(chr(number)) if number <= 0x10FFFF else ""
    return _escaped(
        _ESCAPES[character] if character in _ESCAPES else character if character in "\"'\\" else "\\" + character
    )


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
