"""Puts the pieces of a reply together, and drops the white space that belongs to its syntax. Pure.

Dropped are: white space around a block of reasoning, inside its marks and after them; before a call, between calls, and
after the last one. Everything else is kept, so that a reply without marks comes out as it was written.
"""

from __future__ import annotations

from meshnode.engine.replies.pieces import CallArguments, CallBegan, Piece, Said, Thought
from meshnode.engine.replies.tape import WHITE


class Voice:
    """Collects pieces; ``holds`` says whether a call may come, before which white space would not be text."""

    def __init__(self, *, holds: bool) -> None:
        self.calls = 0
        """Calls that began."""
        self._out: list[Piece] = []
        self._holds = holds
        self._trims = False
        self._thinking = False
        self._pending: list[str] = []

    def take(self) -> list[Piece]:
        """The pieces since the last time."""
        out, self._out = self._out, []
        return out

    def say(self, text: str) -> None:
        """Text for the caller."""
        if self._thinking:
            self.rest()
        if self._trims:
            text = text.lstrip(WHITE)
            self._trims = not text
        if text:
            self._put(Said, text, self._holds)

    def think(self, text: str) -> None:
        """Reasoning; :meth:`rest` ends the block."""
        if not self._thinking:
            self._flush()
            self._thinking = self._trims = True
        if self._trims:
            text = text.lstrip(WHITE)
            self._trims = not text
        if text:
            self._put(Thought, text, True)

    def rest(self) -> None:
        """A block of reasoning, or a call, is over: white space that ends it or follows it says nothing."""
        self._pending.clear()
        self._thinking, self._trims = False, True

    def begin(self, call_id: str, name: str) -> None:
        """The next call."""
        self.rest()
        self._out.append(CallBegan(self.calls, call_id, name))
        self.calls += 1

    def arguments(self, text: str) -> None:
        """More of the last call's arguments."""
        if text:
            self._out.append(CallArguments(self.calls - 1, text))

    def finish(self) -> None:
        """The reply is over: white space that was held for a call that did not come is text."""
        if not self._thinking:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._out.append(Said("".join(self._pending)))
            self._pending.clear()

    def _put(self, kind: type[Said] | type[Thought], text: str, holds: bool) -> None:
        kept = text.rstrip(WHITE) if holds else text
        if kept:
            self._out.append(kind("".join((*self._pending, kept))))
            self._pending.clear()
        if len(kept) < len(text):
            self._pending.append(text[len(kept) :])
