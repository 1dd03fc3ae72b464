"""The judge of a session: each thing that may happen in each state, and everything else refused, at both ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from meshnode.errors import ProtocolViolation
from meshnode.events import Failed, Finished, Started, TextDelta, ToolCallDelta, Usage
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from meshnode.wire.session import GREETING, REQUEST, SLACK, WHO, Bounds, Phase, Role, Session, State
from wiring import samples
from wiring.samples import CALLER, PROVIDER
from wiring.transcript import Play

C, P = Role.CALLER, Role.PROVIDER
HELLO: dict[Role, m.Message] = {C: samples.hello(CALLER), P: samples.hello(PROVIDER)}
PROOF: dict[Role, m.Message] = {C: samples.proof(CALLER), P: samples.proof(PROVIDER)}
BODY, HALF = m.Body(1, samples.BODY, last=True), m.Body(1, samples.BODY[:20], last=False)
TEXT, DONE = m.Events(((1, TextDelta("a", 0, (1,))),)), m.Events(((1, Finished(Usage())),))
ERROR = m.Events(((1, Failed("x", "y")),))

Said = tuple[Role, m.Message]
GREETED: tuple[Said, ...] = ((C, HELLO[C]), (P, HELLO[P]), (C, PROOF[C]), (P, PROOF[P]))
TO: dict[State | None, tuple[Said, ...]] = {
    None: (),
    State.ASKED: ((C, samples.ask()),),
    State.ACCEPTED: ((C, samples.ask()), (P, m.Accept(1))),
    State.RUNNING: ((C, samples.ask()), (P, m.Accept(1)), (C, BODY)),
    State.CANCELLED: ((C, samples.ask()), (P, m.Accept(1)), (C, BODY), (C, m.Cancel(1))),
    State.OVER: ((C, samples.ask()), (P, m.Accept(1)), (C, BODY), (P, DONE)),
}
"""How a request comes to a state."""
HAPPENING: dict[str, Said] = {
    "ask": (C, samples.ask()),
    "accept": (P, m.Accept(1)),
    "refuse": (P, m.Refuse(1, "overloaded")),
    "body": (C, HALF),
    "last body": (C, BODY),
    "credit": (C, m.Credit(((1, 1),))),
    "cancel": (C, m.Cancel(1)),
    "event": (P, TEXT),
    "end": (P, DONE),
    "error": (P, ERROR),
}

# Written by hand, against mesh.md's account of the protocol and not against the tables: what must not be taken.
REFUSED: dict[State | None, str] = {
    None: "accept, refuse, body, last body, credit, cancel, event, end, error",
    State.ASKED: "ask, body, last body, event, end, error",
    State.ACCEPTED: "ask, accept, refuse, event, end",
    State.RUNNING: "ask, accept, refuse, body, last body",
    State.CANCELLED: "ask, body, last body, credit, cancel",
    State.OVER: "ask, accept, refuse, body, last body, event, end, error",
}


def ends(said: Iterable[Said], *, bounds: Bounds = Bounds()) -> dict[Role, Session]:  # noqa: B008  immutable
    """Two ends between which all this was said and heard, after a greeting."""
    sessions = {role: Session(role, bounds) for role in Role}
    for role, message in (*GREETED, *said):
        say(sessions, role, message)
    return sessions


def say(sessions: dict[Role, Session], role: Role, message: m.Message) -> None:
    """One end says something and the other hears it."""
    assert list(sessions[role.other].receive(sessions[role].pack(message))) == [message]


def assert_refused(sessions: dict[Role, Session], role: Role, message: m.Message, match: str = ".") -> None:
    """Neither end lets it be said."""
    before = {each: (session.state(1), session.requests) for each, session in sessions.items()}
    with pytest.raises(ProtocolViolation, match=match):
        sessions[role].pack(message)
    payload = encode(message)
    with pytest.raises(ProtocolViolation, match=match):
        list(sessions[role.other].receive(len(payload).to_bytes(4, "big") + payload))
    assert before == {each: (session.state(1), session.requests) for each, session in sessions.items()}


@pytest.mark.parametrize(("state", "happening"), list(itertools.product(TO, HAPPENING)))
def test_each_thing_in_each_state(state: State | None, happening: str) -> None:
    sessions = ends(TO[state])
    assert {session.state(1) for session in sessions.values()} == {state}
    role, message = HAPPENING[happening]
    if happening in REFUSED[state].split(", "):
        assert_refused(sessions, role, message)
        return
    say(sessions, role, message)
    after = State.ASKED if happening == "ask" else REQUEST[state, happening]  # type: ignore[index]
    assert {session.state(1) for session in sessions.values()} == {after}


def test_the_table_and_the_list_of_what_is_refused_are_all_there_is() -> None:
    allowed = {(state, happening) for state, happening in REQUEST if state is not State.OVER or "body" not in happening}
    refused = {(state, each) for state, text in REFUSED.items() for each in text.split(", ")}
    assert not allowed & refused
    assert allowed | refused | {(None, "ask")} == set(itertools.product(TO, HAPPENING))


def test_what_the_other_end_says_is_not_ours_to_say() -> None:
    for state in (State.ASKED, State.ACCEPTED, State.RUNNING):
        for happening, (role, message) in HAPPENING.items():
            if (state, happening) in REQUEST:
                assert_refused(ends(TO[state]), role.other, message, "out of order")
    for message in (samples.MESSAGES["tick"], samples.ask(7)):
        assert_refused(ends(()), P, message, "out of order")
    assert_refused(ends(()), C, samples.MESSAGES["receipt"], "out of order")


# --- the greeting ---------------------------------------------------------------------------------

SELF: dict[Phase, tuple[str, ...]] = {Phase.NEW: (), Phase.GREETED: ("hello",), Phase.OPEN: ("hello", "proof")}
SELF[Phase.CLOSED] = ("hello", "proof", "bye")
GREETING_REFUSED = {
    Phase.NEW: {m.Proof, m.Beat},
    Phase.GREETED: {m.Hello, m.Beat},
    Phase.OPEN: {m.Hello, m.Proof},
    Phase.CLOSED: {m.Hello, m.Proof, m.Beat, m.Bye},
}


def introduced(role: Role, phase: Phase) -> dict[Role, Session]:
    """Two ends of which the other than ``role`` has said hello, and ``role`` is in that phase."""
    sessions = {each: Session(each) for each in Role}
    say(sessions, role.other, HELLO[role.other])
    words: dict[str, m.Message] = {"hello": HELLO[role], "proof": PROOF[role], "bye": m.Bye("done")}
    for word in SELF[phase]:
        say(sessions, role, words[word])
    return sessions


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", [m.Hello, m.Proof, m.Beat, m.Bye])
def test_each_greeting_in_each_phase(role: Role, phase: Phase, kind: type) -> None:
    sessions = introduced(role, phase)
    words: list[m.Message] = [HELLO[role], PROOF[role], m.Beat(), m.Bye("x")]
    message = next(word for word in words if type(word) is kind)
    assert ((phase, kind) in GREETING) is (kind not in GREETING_REFUSED[phase])
    if kind in GREETING_REFUSED[phase]:
        assert_refused(sessions, role, message, "out of order")
    else:
        say(sessions, role, message)


UNPROVED: tuple[tuple[Said, ...], ...] = (
    (),
    ((C, HELLO[C]),),
    ((P, HELLO[P]),),
    ((C, HELLO[C]), (P, HELLO[P])),
    ((C, HELLO[C]), (P, HELLO[P]), (C, PROOF[C])),
    ((C, HELLO[C]), (P, HELLO[P]), (P, PROOF[P])),
)
"""Everything two ends may have said of themselves when one of them is not proved."""


@pytest.mark.parametrize("said", UNPROVED, ids=len)
@pytest.mark.parametrize("kind", WHO)
def test_nothing_else_is_said_before_both_ends_are_proved(said: tuple[Said, ...], kind: type) -> None:
    message, speaker = next((each, WHO[type(each)]) for each in samples.MESSAGES.values() if type(each) is kind)
    sessions = {role: Session(role) for role in Role}
    for role, word in said:
        say(sessions, role, word)
    assert not any(session.open for session in sessions.values())
    assert_refused(sessions, speaker, message, "out of order")


def test_a_proof_needs_the_others_hello() -> None:
    sessions = {role: Session(role) for role in Role}
    say(sessions, C, HELLO[C])
    assert_refused(sessions, C, PROOF[C], "before both ends had said hello")
    say(sessions, P, m.Bye("done"))
    assert_refused(sessions, C, PROOF[C], "before both ends had said hello")


def test_a_later_version_may_say_hello() -> None:
    sessions = {role: Session(role) for role in Role}
    say(sessions, C, samples.hello(CALLER, version=2))


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_number_is_used_once_and_numbers_rise(number: int) -> None:
    sessions = ends([(C, samples.ask(3)), (P, m.Refuse(3, "x"))])
    assert_refused(sessions, C, samples.ask(number), "after request 3")
    say(sessions, C, samples.ask(9))
    assert sessions[C].state(10) is None


def test_no_more_requests_are_open_than_the_providers_hello_allows() -> None:
    sessions = ends((C, samples.ask(number)) for number in range(1, 5))
    assert_refused(sessions, C, samples.ask(5), "over 4 requests")
    say(sessions, P, m.Refuse(2, "x"))
    say(sessions, C, samples.ask(5))
    assert sessions[C].requests == sessions[P].requests == 4


def test_no_more_requests_are_open_than_our_own_bound_allows() -> None:
    sessions = ends([(C, samples.ask(1))], bounds=Bounds(max_open=1))
    assert_refused(sessions, C, samples.ask(2), "over 1 requests")


@pytest.mark.parametrize("size", [0, 41])
def test_a_body_has_a_size_that_is_allowed(size: int) -> None:
    sessions = ends((), bounds=Bounds(max_body=40))
    assert_refused(sessions, C, samples.ask(body=bytes(size)), f"a body of {size} bytes")
    say(sessions, C, samples.ask(body=bytes(40)))


BODIES = {
    "too long": [m.Body(1, bytes(41), last=True)],
    "too short": [m.Body(1, bytes(39), last=True)],
    "too long in parts": [m.Body(1, bytes(39), last=False), m.Body(1, bytes(2), last=True)],
    "whole and no end": [m.Body(1, bytes(40), last=False)],
    "a part of nothing": [m.Body(1, b"", last=False)],
    "an end of nothing": [m.Body(1, b"", last=True)],
}


@pytest.mark.parametrize("parts", BODIES.values(), ids=BODIES)
def test_a_body_has_the_length_that_was_announced(parts: list[m.Message]) -> None:
    sessions = ends(TO[State.ACCEPTED])
    for part in parts[:-1]:
        say(sessions, C, part)
    with pytest.raises(ProtocolViolation, match="not the length"):
        sessions[C].pack(parts[-1])
    payload = encode(parts[-1])
    with pytest.raises(ProtocolViolation, match="not the length"):
        list(sessions[P].receive(len(payload).to_bytes(4, "big") + payload))


@pytest.mark.parametrize("granted", [0, 5])
def test_more_tokens_than_were_granted_are_a_violation(granted: int) -> None:
    ask = samples.ask(credit=granted)
    sessions = ends([(C, ask), (P, m.Accept(1)), (C, BODY), (C, m.Credit(((1, 3), (1, 0))))])
    many = m.Events(((1, TextDelta("x", 0, tuple(range(granted + 3)))), (1, Started(5))))
    say(sessions, P, many)
    for _ in range(SLACK):
        say(sessions, P, m.Events(((1, ToolCallDelta(0, "{}")),)))
    say(sessions, P, m.Events(((1, Started(5)),)))
    assert_refused(sessions, P, TEXT, "more tokens than it was granted")


def test_one_requests_credit_is_not_anothers() -> None:
    sessions = ends([*TO[State.RUNNING], (C, samples.ask(2, credit=0))])
    say(sessions, P, m.Accept(2))
    say(sessions, C, m.Body(2, samples.BODY, last=True))
    over = m.Events(((1, TextDelta("x")), (2, TextDelta("x", 0, tuple(range(SLACK + 1))))))
    assert_refused(sessions, P, over, "request 2 got more")


# --- messages that cross --------------------------------------------------------------------------


def running(*numbers: int, bound: int = 4) -> Play:
    """Two ends with these requests accepted, everything heard."""
    play = Play()
    for role, message in (*GREETED[:1], (P, samples.hello(PROVIDER, max_open=bound)), *GREETED[2:]):
        play.say(role, message)
        play.hear(role.other, 1)
    for number in numbers:
        play.say(C, samples.ask(number))
        play.hear(P, 1)
        play.say(P, m.Accept(number))
        play.hear(C, 1)
    return play


def test_a_body_credit_and_a_cancel_cross_the_end() -> None:
    play = running(1)
    play.say(C, HALF)
    play.say(P, ERROR)
    play.say(C, m.Credit(((1, 5),)))
    play.say(C, m.Body(1, samples.BODY[20:], last=True))
    play.say(C, m.Cancel(1))
    assert len(play.hear(P, 4)) == 4
    assert len(play.hear(C, 1)) == 1
    assert play.requests == {0}
    with pytest.raises(ProtocolViolation, match="not the length"):
        play.say(C, HALF)


def test_a_body_that_crosses_is_no_longer_than_it_was_announced() -> None:
    judge = ends([*TO[State.ACCEPTED], (P, ERROR)])[P]
    payload = encode(m.Body(1, bytes(41), last=True))
    with pytest.raises(ProtocolViolation, match="not the length"):
        list(judge.receive(len(payload).to_bytes(4, "big") + payload))


def test_the_body_of_a_request_that_was_refused_is_never_taken() -> None:
    assert_refused(ends([*TO[State.ASKED], (P, m.Refuse(1, "x"))]), C, HALF, "not the length")


def test_an_accept_and_the_answer_cross_a_cancel() -> None:
    play = running(1)
    play.say(C, samples.ask(2))
    play.say(C, BODY)
    play.hear(P, 2)
    play.say(P, m.Accept(2))
    play.say(P, TEXT)
    play.say(C, m.Cancel(1))
    play.say(C, m.Cancel(2))
    play.hear(C, 2)
    play.hear(P, 2)
    play.say(P, m.Events(((1, TextDelta("b")), (1, Failed("cancelled", "")), (2, Failed("cancelled", "")))))
    play.hear(C, 1)
    assert play.requests == {0}


def test_what_was_said_before_a_good_bye_was_heard_is_taken() -> None:
    play = running(1)
    play.say(P, m.Bye("draining"))
    for message in (BODY, samples.ask(2), m.Beat(), samples.MESSAGES["tick"], m.Bye("done")):
        play.say(C, message)
    assert len(play.hear(P, 5)) == 5
    assert len(play.hear(C, 1)) == 1
    with pytest.raises(ProtocolViolation, match="out of order"):
        play.say(P, TEXT)


def test_a_good_bye_crosses_a_proof() -> None:
    play = Play()
    for role in Role:
        play.say(role, HELLO[role])
    for role in Role:
        play.hear(role, 1)
        play.say(role, PROOF[role])
    play.say(P, m.Bye("draining"))
    play.hear(C, 1)
    play.say(C, samples.ask())
    assert len(play.hear(P, 2)) == 2


def test_no_body_that_may_still_come_is_forgotten() -> None:
    """Two may be open. Both are closed with bodies on the road; of one that is known, and a third begins and ends."""
    play = running(1, 2, bound=2)
    play.say(P, m.Events(((1, Failed("x", "")),)))
    play.say(P, m.Events(((2, Failed("x", "")),)))
    play.say(C, m.Body(1, samples.BODY[:10], last=False))
    play.hear(C, 1)
    play.say(C, samples.ask(3))
    play.say(C, m.Body(2, samples.BODY, last=True))
    play.hear(P, 2)
    play.say(P, m.Accept(3))
    play.say(P, m.Events(((3, Failed("x", "")),)))
    assert play.hear(P, 1) == [m.Body(2, samples.BODY, last=True)]


# --- what is said is what can be heard ------------------------------------------------------------

UNSPEAKABLE: dict[str, Said] = {
    "a long reason": (C, m.Bye("x", "y" * 501)),
    "half a surrogate pair": (C, m.Bye("\ud800")),
    "no events": (P, m.Events(())),
    "no credit": (C, m.Credit(())),
    "a wrong network": (C, m.Hello(1, b"net", CALLER.ledger_public, bytes(16))),
    "a huge event": (P, m.Events(((1, TextDelta("x" * m.FRAME)),))),
    "terms of no sense": (C, m.Ask(1, b"\x90", bytes(64), 1)),
}


@pytest.mark.parametrize("name", UNSPEAKABLE)
def test_an_end_does_not_say_what_the_other_would_refuse(name: str) -> None:
    role, message = UNSPEAKABLE[name]
    session = Session(role) if isinstance(message, m.Hello) else ends(())[role]
    with pytest.raises(ProtocolViolation):
        session.pack(message)
    assert session.requests == 0


def test_a_state_no_one_asked_for_is_none() -> None:
    session = ends([(C, samples.ask(5)), (P, m.Refuse(5, "x"))])[C]
    assert [session.state(number) for number in (0, 5, 6)] == [None, State.OVER, None]
