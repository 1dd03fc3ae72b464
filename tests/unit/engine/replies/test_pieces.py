"""Pieces of one kind join; others do not."""

from __future__ import annotations

from meshnode.engine.replies.pieces import CallArguments, CallBegan, Piece, Said, Thought, coalesced


def test_neighbours_of_one_kind_are_joined() -> None:
    pieces: list[Piece] = [Thought("a"), Thought("b"), Said("c"), Said("d"), Thought("e")]
    assert coalesced(pieces) == [Thought("ab"), Said("cd"), Thought("e")]


def test_arguments_of_one_call_are_joined_and_of_two_are_not() -> None:
    began = CallBegan(1, "b", "g")
    pieces: list[Piece] = [
        CallArguments(0, "{"),
        CallArguments(0, "}"),
        CallArguments(1, "{"),
        began,
        CallArguments(1, "}"),
    ]
    assert coalesced(pieces) == [CallArguments(0, "{}"), CallArguments(1, "{"), began, CallArguments(1, "}")]


def test_kinds_with_the_same_text_differ() -> None:
    assert coalesced([Said("x"), Thought("x")]) == [Said("x"), Thought("x")]
    assert coalesced([]) == []
