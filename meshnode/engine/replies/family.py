"""What a family of models writes: its marks of reasoning, its syntaxes of calls. Pure.

A family is data; its syntaxes (:mod:`json_calls`, :mod:`named_calls`, :mod:`tagged_calls`, …) know how to read a call,
and how to say in a grammar what they read, so that a call that is forced is one that is understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.engine.replies.forcing import ANY_TEXT, Lark
from meshnode.engine.replies.pieces import Ids
from meshnode.engine.replies.reading import Parser, Reading
from meshnode.engine.replies.tape import Steps

_CONTROL: Final = re.compile(r"</?[^<>\s=\"]+>|\[/?[A-Z_]+\]|｜DSML｜")
"""What looks like a token of its own in the text of a mark."""

_WHITE: Final = r"/\n{0,2}/"
"""What stands between reasoning and what follows it."""


class Syntax(Protocol):
    """How one family writes its calls."""

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""

    @property
    def collects(self) -> bool:
        """Whether several forced calls share one mark."""

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """Read what follows the opening ``mark``, to the end of its last call. Raises Malformed."""

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """A grammar's expression for what follows the opening ``mark``: one call of ``tools``, or several."""


@dataclass(frozen=True)
class Thinking:
    """The marks around a block of reasoning."""

    opens: str
    closes: tuple[str, ...]


@dataclass(frozen=True)
class Opening:
    """Marks that begin a call: ``anywhere``, or only where a block can begin.

    ``forces``: forced calls use it, with its first mark, ``joint`` between two and ``around`` all of them.
    """

    marks: tuple[str, ...]
    syntax: Syntax
    anywhere: bool = True
    forces: bool = False
    joint: str = ""
    around: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Family:
    """One family. ``dropped`` marks say nothing; ``reader`` replaces the reading of marks as a whole (harmony)."""

    name: str
    thoughts: tuple[Thinking, ...] = ()
    openings: tuple[Opening, ...] = ()
    dropped: tuple[str, ...] = ()
    calls_end_thought: bool = False
    thinks: bool = False
    """Whether a forced call may be preceded by reasoning that the prompt has not opened."""
    reader: Callable[[Reading], Steps[None]] | None = field(default=None, compare=False)
    begins: Callable[[str], str] | None = field(default=None, compare=False)
    """What of a prompt's tail belongs to the reply's syntax; :meth:`replayed` without it."""
    start: Callable[[Lark, Sequence[Tool], str, bool], str] | None = field(default=None, compare=False)
    """The whole of a forced grammar's start, where it is no matter of marks (harmony)."""
    speaks: str = ""
    """What stands for text where a call's mark was written by the prompt (functionary)."""

    @property
    def preserved(self) -> tuple[str, ...]:
        """Texts that are control tokens in models of this family, and must be shown to the parser where they are."""
        marks = [mark for each in self.thoughts for mark in (each.opens, *each.closes)]
        marks += [text for each in self.openings for text in (*each.marks, *each.syntax.literals)]
        found = [token for mark in (*marks, *self.dropped) for token in _CONTROL.findall(mark)]
        return tuple(dict.fromkeys(found))

    def parser(
        self,
        *,
        tools: Sequence[Tool],
        prompt_tail: str = "",
        parallel: bool = True,
        forced: bool = False,
        ids: Ids = "call_{}".format,
    ) -> Parser:
        """A parser of one reply. ``tools`` are those it may call: none if tools are off.

        ``prompt_tail`` is what the template wrote for the reply to go on from, ``ids`` names calls that the model does
        not. Of a reply that is ``forced`` by a grammar, as one with a strict tool is, nothing begins a call but what
        the grammar holds: no second syntax of the family, and no mark within reasoning.
        """
        only = forced or any(tool.strict for tool in tools)
        return Parser(self, tools, parallel=parallel, ids=ids, replayed=self.replayed(prompt_tail), only_forced=only)

    def forced(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        *,
        parallel: bool = True,
        prompt_tail: str = "",
        control: Mapping[str, int] = MappingProxyType({}),
        thought: bool = True,
    ) -> str | None:
        """The grammar that holds a reply to ``choice``, in llguidance's Lark-like language; None if it needs none.

        Required calls: reasoning, where the prompt opened it or the family writes it, then calls and nothing else.
        Left to the model, with a strict tool: any text, but what begins a call goes on as one. ``control`` maps those
        of :attr:`preserved` that are tokens of this model to their numbers. Without ``thought`` it begins after
        reasoning that the prompt opened, and has none of its own; None as well where the two cannot be told apart.
        """
        allowed = [tool for tool in tools if not choice.names or tool.name in choice.names]
        required = choice.mode is ToolMode.REQUIRED
        free = choice.mode is ToolMode.AUTO and not any(tool.strict for tool in allowed)
        opening = next((each for each in self.openings if each.forces), None)
        if choice.mode is ToolMode.NONE or free or not allowed or opening is None:
            return None
        lark = Lark(control, forced=required)
        if self.start is not None:
            if not thought:
                return None
            return lark.grammar(self.start(lark, allowed, prompt_tail, required))
        mark = "" if opening.marks[0] in ("{", "[") else opening.marks[0]
        rest = lark.rule("call", opening.syntax.force(lark, allowed, mark, many=parallel))
        before = self._forced_thought(lark, prompt_tail) if thought else lark.rule("white", _WHITE)
        if required:
            return lark.grammar(f"{before} {self._required(lark, opening, mark, rest, prompt_tail, parallel)}")
        return lark.grammar(f"{before} {self._strict(lark, opening, mark, rest, prompt_tail, parallel)}")

    def _required(self, lark: Lark, opening: Opening, mark: str, rest: str, tail: str, many: bool) -> str:
        """Calls and nothing else."""
        said = bool(mark) and self.replayed(tail) == mark
        first = rest if said else f"{lark.text(mark)} {rest}"
        more = f"({lark.text(opening.joint + mark)} {rest})*" if many and not opening.syntax.collects else ""
        before, after = (lark.text(each) for each in opening.around)
        return f"{before} {first} {more} {after}"

    def _strict(self, lark: Lark, opening: Opening, mark: str, rest: str, tail: str, many: bool) -> str:
        """Text in which calls may stand."""
        count = "*" if many else "?"
        text = lark.rule("rest", ANY_TEXT)
        if not mark:
            plain = lark.rule("plain", r"/[ \t\r\n]*([^ \t\r\n{\[](.|\n)*)?/")
            return f"({rest} ({lark.text(opening.joint)} {rest}){count} | {plain})"
        calls = f"({lark.up_to(mark)} {rest}){count} {text}"
        if self.replayed(tail) == mark:
            return f"({rest} {calls} | {lark.text(self.speaks)} {calls})"
        return calls

    def _forced_thought(self, lark: Lark, tail: str) -> str:
        """Reasoning before a forced call: the rest of what the prompt opened, or what the family may write."""
        opened = self.replayed(tail)
        for thinking in self.thoughts:
            if opened.startswith(thinking.opens):
                return f"{lark.up_to(thinking.closes[0])} {lark.rule('white', _WHITE)}"
        closed = any(close in tail for each in self.thoughts for close in each.closes)
        if not self.thinks or not self.thoughts or closed:
            return ""
        thinking = self.thoughts[0]
        block = f"{lark.text(thinking.opens)} {lark.up_to(thinking.closes[0])} {lark.rule('white', _WHITE)}"
        return f"({block})?"

    def replayed(self, prompt_tail: str) -> str:
        """The end of a prompt that the parser must have read: a block of reasoning that is still open."""
        if self.begins is not None:
            return self.begins(prompt_tail)
        found = [(prompt_tail.rfind(each.opens), each) for each in self.thoughts]
        start, thinking = max(found, key=lambda each: each[0], default=(-1, None))
        if thinking is None or start < 0 or any(close in prompt_tail[start:] for close in thinking.closes):
            return ""
        return prompt_tail[start:]
