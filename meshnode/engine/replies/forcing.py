"""Writes the grammars that force calls, in llguidance's Lark-like language. Pure.

Source of the language: llguidance's ``docs/syntax.md``. A mark that is one token of the model's vocabulary is written
by its number (``<[128010]>``), any other as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from meshnode.domain import Tool
from meshnode.engine.replies.offered import schema_of

ANY_TEXT: Final = r"/(.|\n)*/"
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to write each value: a model cannot lose itself in white space."""


class Lark:
    """Rules of one grammar; every method gives back an expression of them.

    ``control`` maps texts to the numbers of the tokens they are in this model. Arguments of a tool follow its schema
    if it is strict, or if ``forced``: then every call does.
    """

    def __init__(self, control: Mapping[str, int], *, forced: bool) -> None:
        self._control = dict(control)
        self._forced = forced
        self._rules: list[str] = []
        self._split = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")

    def grammar(self, start: str) -> str:
        """The whole of it."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._rules]) + "\n"

    def rule(self, name: str, expression: str, options: str = "") -> str:
        """A rule of its own; its name is made unique."""
        unique = f"{name}_{len(self._rules)}"
        self._rules.append(f"{unique}{options}: {expression}")
        return unique

    def text(self, text: str) -> str:
        """Exactly this text, with what are tokens of their own as such."""
        parts: list[str] = []
        at = 0
        for found in self._split.finditer(text):
            parts += [_quoted(text[at : found.start()]), f"<[{self._control[found.group()]}]>"]
            at = found.end()
        return " ".join(part for part in (*parts, _quoted(text[at:])) if part)

    def arguments(self, tool: Tool) -> str:
        """The JSON object of a call of ``tool``."""
        schema = schema_of(tool) if tool.strict or self._forced else {}
        return self.json({"type": "object"} | schema, strict=tool.strict)

    def json(self, schema: Mapping[str, Any], *, strict: bool) -> str:
        """JSON of this schema; what is not strict may have keywords that the engine cannot hold."""
        guided = dict(schema) | {"x-guidance": _COMPACT | ({} if strict else {"lenient": True})}
        return self.rule("json", f"%json {json.dumps(guided, ensure_ascii=False)}")

    def up_to(self, mark: str) -> str:
        """Any text, then ``mark``, which does not occur in it: as the token it is, or spelled with others."""
        spelled = self.rule("upto", ANY_TEXT, f"[suffix={json.dumps(mark, ensure_ascii=False)}]")
        if mark not in self._control:
            return spelled
        return f"({spelled} | {self.rule('text', ANY_TEXT)} {self.text(mark)})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""
