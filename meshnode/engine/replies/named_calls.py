"""Calls whose name stands before the JSON of their arguments: ``name[ARGS]{…}``. Pure.

Mistral's newer models, DeepSeek R1, V3 and V3.1, Kimi K2, and functionary 3.1 and 3.2 differ only in the marks
between the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import Lark
from meshnode.engine.replies.json_calls import JsonCalls
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.reading import Reading
from meshnode.engine.replies.tape import Malformed, Steps


@dataclass(frozen=True)
class NamedCalls:
    """A name up to ``end``, an object, and ``closes`` if they come.

    ``skipped``: words that stand where the name could, with an ``end`` of their own (DeepSeek's ``function``), after
    which the name ends with ``line``. ``id_mark``: what may stand between the name and an id (Mistral). ``numbered``:
    the name is part of an id, ``functions.name:0`` (Kimi). ``speaks``: the name that is none, but means text
    (functionary). ``head`` stands before a forced name, and its arguments are ``fenced``.
    """

    end: str
    closes: tuple[str, ...] = ()
    skipped: str = ""
    line: str = "\n"
    id_mark: str = ""
    numbered: bool = False
    speaks: str = ""
    fenced: bool = False
    head: str = ""

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""
        return (self.end, self.id_mark, *self.closes)

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """One call; or JSON, name and all, as older models of the same family write it. Raises Malformed."""
        tape = reading.tape
        if (yield from tape.peek()) in ("{", "["):
            yield from JsonCalls(closes=self.closes).read(reading, mark)
            return
        name, call_id, ended = yield from self._name(reading)
        if name == self.speaks and name:
            return
        yield from tape.white()
        fenced = not ended and bool((yield from tape.match(("```json", "```\n"))))
        yield from tape.white()
        if ended or (yield from tape.peek()) != "{":
            if not (ended or (yield from tape.match(self.closes))):
                raise Malformed
            reading.begin(name, call_id)
            reading.arguments("{}")
            return
        reading.begin(name, call_id)
        if not (yield from tape.pull(JsonScan("{"), reading.arguments)):
            return
        yield from tape.white()
        if fenced:
            yield from tape.match(("```",), cut=True)
            yield from tape.white()
        yield from tape.match(self.closes, cut=True)

    def _name(self, reading: Reading) -> Steps[tuple[str, str, bool]]:
        """The name, an id if one is written, and whether the call ended with that."""
        if self.speaks:  # the mark is common in text: only a name that is known makes it one
            known = tuple(name + self.end for name in (*reading.offered.names, self.speaks))
            word = yield from reading.tape.match(known)
            if not word:
                raise Malformed
            return word.removesuffix(self.end), "", False
        ends = tuple(end for end in (self.end, self.id_mark, *self.closes) if end)
        word, end = yield from reading.tape.word(ends)
        if self.skipped and word.strip() == self.skipped:
            word, end = yield from reading.tape.word((self.line, *self.closes))
        call_id = ""
        if self.id_mark and end == self.id_mark:
            call_id, end = yield from reading.tape.word((self.end, *self.closes))
        if self.numbered and ":" in word:
            call_id = word.strip()
            word = call_id.rpartition(":")[0]
        return word, call_id, end in self.closes

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """One call of ``tools``."""
        return lark.rule("call", " | ".join(self._forced(lark, tool) for tool in tools))

    def _forced(self, lark: Lark, tool: Tool) -> str:
        name = f"functions.{tool.name}:0" if self.numbered else self.head + tool.name
        start, stop = ("```json\n", "\n```") if self.fenced else ("", "")
        end = (self.line if self.skipped and self.head else self.end) + start
        closes = stop + (self.closes[0] if self.closes else "")
        return f"{lark.text(name + end)} {lark.arguments(tool)} {lark.text(closes)}"
