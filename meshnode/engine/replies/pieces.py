"""What a reply is made of, once read. Pure.

Pieces are about one choice and know neither its number nor its tokens: the engine adds both when it makes
:mod:`meshnode.events` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshnode.domain import Record


class Said(Record, frozen=True):
    """Text for the caller."""

    text: str


class Thought(Record, frozen=True):
    """Reasoning, without the marks around it."""

    text: str


class CallBegan(Record, frozen=True):
    """Call number ``index`` (from 0) of a tool that was offered."""

    index: int
    id: str
    name: str


class CallArguments(Record, frozen=True):
    """More of the JSON object that call number ``index`` hands over."""

    index: int
    text: str


Piece = Said | Thought | CallBegan | CallArguments
Ids = Callable[[int], str]
"""The id of call number ``index``, for syntaxes in which the model writes none. Deterministic."""


def coalesced(pieces: Iterable[Piece]) -> list[Piece]:
    """The same with neighbours of one kind joined: what does not depend on how the reply was cut into tokens."""
    out: list[Piece] = []
    for piece in pieces:
        last = out[-1] if out else None
        if isinstance(piece, Said) and isinstance(last, Said):
            out[-1] = Said(last.text + piece.text)
        elif isinstance(piece, Thought) and isinstance(last, Thought):
            out[-1] = Thought(last.text + piece.text)
        elif isinstance(piece, CallArguments) and isinstance(last, CallArguments) and piece.index == last.index:
            out[-1] = CallArguments(piece.index, last.text + piece.text)
        else:
            out.append(piece)
    return out
