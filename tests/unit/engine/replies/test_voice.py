"""White space that belongs to the syntax is dropped, and no other."""

from __future__ import annotations

from meshnode.engine.replies.pieces import CallArguments, CallBegan, Piece, Said, Thought, coalesced
from meshnode.engine.replies.voice import Voice


def heard(voice: Voice) -> list[Piece]:
    """All of it."""
    voice.finish()
    return coalesced(voice.take())


def test_text_is_kept_as_it_is() -> None:
    for holds in (False, True):
        voice = Voice(holds=holds)
        for text in (" a", " ", "\n", "b \n"):
            voice.say(text)
        assert heard(voice) == [Said(" a \nb \n")]


def test_white_space_waits_only_where_a_call_may_come() -> None:
    waits, flows = Voice(holds=True), Voice(holds=False)
    for voice in (waits, flows):
        voice.say("a\n")
    assert (waits.take(), flows.take()) == ([Said("a")], [Said("a\n")])


def test_white_space_around_a_call_is_dropped() -> None:
    voice = Voice(holds=True)
    voice.say("a\n\n")
    voice.begin("id", "f")
    voice.arguments("{}")
    voice.arguments("")
    voice.rest()
    voice.say("\n")
    voice.say(" b\n")
    assert heard(voice) == [Said("a"), CallBegan(0, "id", "f"), CallArguments(0, "{}"), Said("b\n")]
    assert voice.calls == 1


def test_white_space_around_reasoning_is_dropped() -> None:
    voice = Voice(holds=False)
    for text in ("\n", " hm", "\n", "so\n\n"):
        voice.think(text)
    voice.rest()
    voice.say("\n\nx")
    assert heard(voice) == [Thought("hm\nso"), Said("x")]


def test_reasoning_of_white_space_says_nothing() -> None:
    voice = Voice(holds=False)
    voice.think("\n\n")
    voice.rest()
    assert heard(voice) == []
