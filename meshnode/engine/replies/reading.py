"""Reads one reply of a family: text, blocks of reasoning, calls. Pure.

Where marks count: reasoning can open only where a block can, which is at the beginning of the reply and after another
block or a call; a mark in the middle of a sentence is part of the sentence. Calls can open wherever their syntax says.

What is malformed is never lost and never an exception:

- a call whose name is not offered, or that goes wrong before its arguments begin, comes out as text, as it was
  written, its opening mark included; reading goes on at the character that was wrong;
- arguments that stop being JSON stop there: what came before stays the beginning of a JSON object, and the rest of the
  reply is read as text;
- of a reply that was cut, the arguments so far are such a beginning, and a call without a name yet is text;
- with ``parallel`` off, a second call is text as well.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from meshnode.domain import Tool
from meshnode.engine.replies.offered import Offered
from meshnode.engine.replies.pieces import Ids, Piece
from meshnode.engine.replies.tape import Malformed, Steps, Tape
from meshnode.engine.replies.voice import Voice

if TYPE_CHECKING:
    from meshnode.engine.replies.family import Family, Opening


class Reading:
    """What the readers of the syntaxes share: the tape they read from, and what comes out."""

    def __init__(self, tape: Tape, offered: Offered, *, parallel: bool, ids: Ids) -> None:
        self.tape = tape
        self.offered = offered
        self.voice = Voice(holds=bool(offered))
        self._parallel = parallel
        self._ids = ids
        self._used: set[str] = set()

    def begin(self, written: str, call_id: str = "") -> str:
        """A call of this name; the name of the tool. Raises Malformed if none is meant, or no further call may be."""
        name = self.offered.resolve(written)
        if name is None or (self.voice.calls and not self._parallel):
            raise Malformed
        own = call_id if call_id and call_id not in self._used else self._ids(self.voice.calls)
        self._used.add(own)
        self.voice.begin(own, name)
        self.tape.forget()
        return name

    def arguments(self, text: str) -> None:
        """More of its arguments."""
        self.voice.arguments(text)
        self.tape.forget()


class Parser:
    """One choice's reply: feed its text as it comes, finish once. Nothing is ever raised for what a model wrote."""

    def __init__(
        self,
        family: Family,
        tools: Sequence[Tool],
        *,
        parallel: bool,
        ids: Ids,
        replayed: str = "",
        only_forced: bool = False,
    ) -> None:
        self._family = family
        self._tape = Tape(replayed)
        self._reading = Reading(self._tape, Offered(tools), parallel=parallel, ids=ids)
        openings = [each for each in family.openings if tools and (each.forces or not only_forced)]
        self._openings = {mark: each for each in openings for mark in each.marks[: 1 if only_forced else None]}
        self._ends_thought = family.calls_end_thought and not only_forced
        self._steps: Generator[None, None, None] | None = (family.reader or self._reply)(self._reading)
        self._go_on()
        self._reading.voice.take()  # what the prompt said is the prompt's

    @property
    def calls(self) -> int:
        """Calls that began so far."""
        return self._reading.voice.calls

    def feed(self, text: str) -> list[Piece]:
        """More of the reply; the pieces that it completes. Nothing waits but what could be the beginning of a mark."""
        self._tape.write(text)
        return self._go_on()

    def finish(self) -> list[Piece]:
        """The reply is over: what was held back comes out."""
        self._tape.close()
        pieces = self._go_on()
        self._reading.voice.finish()
        return pieces + self._reading.voice.take()

    def _go_on(self) -> list[Piece]:
        if self._steps is not None and next(self._steps, self) is self:
            self._steps = None
        return self._reading.voice.take()

    # --- the reader of most families ---------------------------------------------------------------

    def _reply(self, reading: Reading) -> Steps[None]:
        tape, voice = reading.tape, reading.voice
        first, anywhere = self._marks()
        fresh = True
        while True:
            if fresh:
                yield from tape.white()
                mark = yield from tape.match(first)
                if not mark:
                    voice.say(tape.unsaid())
                    fresh = False
                    continue
            else:
                mark = yield from tape.until(anywhere, voice.say)
                if not mark:
                    return
            fresh = yield from self._block(mark)

    def _marks(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Marks that count where a block can begin, and those that do anywhere."""
        anywhere = [mark for mark, opening in self._openings.items() if opening.anywhere]
        anywhere += self._family.dropped
        thoughts = [mark for each in self._family.thoughts for mark in (each.opens, *each.closes)]
        first = dict.fromkeys([*anywhere, *thoughts, *self._openings])
        return tuple(first), tuple(dict.fromkeys(anywhere))

    def _block(self, mark: str) -> Steps[bool]:
        """What an opening mark begins; whether another block can begin after it."""
        tape, voice = self._tape, self._reading.voice
        if mark in self._openings:
            called = yield from self._call(self._openings[mark], mark)
            if not called:
                voice.say(tape.unsaid())
            return called
        tape.forget()
        for thinking in self._family.thoughts:
            if mark == thinking.opens:
                yield from self._think(thinking.closes)
            elif mark in thinking.closes:
                voice.rest()  # the prompt, or nobody, opened it
        return True

    def _call(self, opening: Opening, mark: str) -> Steps[bool]:
        """Read what a call's opening mark begins; false if it is none (what was consumed is unsaid)."""
        try:
            yield from opening.syntax.read(self._reading, mark)
        except Malformed:
            return False
        self._tape.forget()
        self._reading.voice.rest()
        return True

    def _think(self, closes: tuple[str, ...]) -> Steps[None]:
        tape, voice = self._tape, self._reading.voice
        calls = tuple(mark for mark in self._marks()[1] if self._ends_thought)
        voice.think("")
        while True:
            mark = yield from tape.until((*closes, *calls), voice.think)
            if mark in self._family.dropped and mark not in closes:
                tape.forget()
                continue
            if mark in closes or not mark:
                tape.forget()
                voice.rest()
                return
            if (yield from self._call(self._openings[mark], mark)):
                return
            voice.think(tape.unsaid())
