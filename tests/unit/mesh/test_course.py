"""Who is asked after whom, what is learnt of each, and what the caller is told when nobody is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshnode.domain import GenerationRequest, ModelId, PeerId, Privacy
from meshnode.errors import (
    CapabilityUnavailable,
    ContextLengthExceeded,
    DeadlineExceeded,
    DiskFull,
    MeshnodeError,
    ModelFailed,
    NobodyServes,
    Overloaded,
    PeerError,
    ProtocolViolation,
    StreamReset,
    TemplateRefused,
    Unreachable,
    WorkerDied,
)
from meshnode.mesh.asker import PeerRefused
from meshnode.mesh.course import MOST, MeshCourse
from meshnode.mesh.failover import Speed
from meshnode.mesh.health import UNKNOWN, Health
from meshnode.mesh.route import Candidate, Plan, Rejection
from meshnode.wire.messages import Refuse
from tests.kit.requests import prompt

M = ModelId("m")
HERE = Candidate(kind="local", node="alice", model=M, reason="loaded here")


def peer(name: str, *, context: int = 4096) -> Candidate:
    """A peer of a plan."""
    return Candidate(kind="peer", node=name, model=M, reason="1 of 3 peers", context=context)


def refused(code: str, *, retry_ms: int = 0, alternates: tuple[str, ...] = ()) -> PeerRefused:
    """A refusal, in words of the peer's own."""
    return PeerRefused(Refuse(1, code, "my own words.", retry_ms, alternates))


class Way:
    """A course, and the health it tells."""

    def __init__(
        self,
        *candidates: Candidate,
        rejections: tuple[Rejection, ...] = (),
        request: GenerationRequest | None = None,
        alternate: Callable[[PeerId], Candidate | None] | None = None,
    ) -> None:
        self.now = 0.0
        self.health = Health(lambda: self.now)
        plan = Plan(candidates=candidates, rejections=rejections)
        self.course = MeshCourse(
            request or prompt(), M, plan, self.health, clock=lambda: self.now, alternate=alternate or nobody
        )

    def follow(self, *errors: MeshnodeError) -> tuple[list[str], MeshnodeError | None]:
        """Who is asked when these befall them in turn before the first word, and what is told in the end."""
        asked: list[str] = []
        for error in errors:
            asked.append(self.course.next().node)
            if (told := self.course.lost(error, spoke=False)) is not None:
                return asked, told
        return [*asked, self.course.next().node], None


# --- one after the other --------------------------------------------------------------------------


def test_the_next_is_asked_and_the_route_says_why() -> None:
    way = Way(peer("12D3KooWbobbob"), peer("12D3KooWcarol1"), HERE)
    assert way.course.next().node == "12D3KooWbobbob"
    assert (way.course.route.attempts, way.course.route.reason) == (1, "1 of 3 peers")
    assert way.course.lost(refused("overloaded"), spoke=False) is None
    assert way.course.next().node == "12D3KooWcarol1"
    assert way.course.route.reason == "1 tried: 12D3..bobbob refused (overloaded)"
    assert way.course.lost(Unreachable("x"), spoke=False) is None
    assert way.course.next() == HERE
    route = way.course.route
    assert (route.kind, route.node, route.attempts) == ("local", "alice", 3)
    assert route.reason == "2 tried: 12D3..bobbob refused (overloaded), 12D3..carol1 failed (peer_unreachable)"


def test_no_more_than_five_are_asked() -> None:
    way = Way(*(peer(f"p{number}") for number in range(9)))
    asked, told = way.follow(*[Unreachable("x")] * 9)
    assert asked == [f"p{number}" for number in range(MOST)]
    assert isinstance(told, NobodyServes)


def test_this_nodes_engine_is_asked_again_when_its_worker_died_and_nobody_else_can() -> None:
    assert Way(HERE).follow(WorkerDied("it died."), WorkerDied("it died again."))[0] == ["alice", "alice"]
    way = Way(HERE, peer("bob"))
    assert way.follow(WorkerDied("it died."), Unreachable("x")) == (["alice", "bob", "alice"], None)
    assert isinstance(way.course.lost(WorkerDied("it died."), spoke=False), NobodyServes)


def test_a_peer_that_named_others_is_followed_where_their_offers_are_known() -> None:
    known = {"dave": peer("dave"), "bob": peer("bob"), "carol": peer("carol")}
    way = Way(peer("bob"), peer("carol"), alternate=lambda name: known.get(name))
    no = refused("overloaded", alternates=("eve", "bob", "carol", "dave", "dave"))
    asked, told = way.follow(no, refused("overloaded", alternates=("bob",)), refused("overloaded"))
    assert asked == ["bob", "carol", "dave"]
    assert isinstance(told, NobodyServes)


def test_a_peer_that_failed_others_since_the_plan_is_passed_over() -> None:
    way = Way(peer("bob"), peer("carol"))
    way.health.failed(PeerId("bob"), "stream_reset", "x")
    assert way.course.next().node == "carol"
    told = way.course.lost(refused("overloaded"), spoke=False)
    assert told is not None
    assert "failed, not asked for" in told.message


def test_a_peer_that_failed_lately_gets_one_request_to_show_itself() -> None:
    way = Way(peer("bob"), peer("carol"))
    way.health.failed(PeerId("bob"), "stream_reset", "x")
    way.now += 60
    assert way.course.next().node == "bob"
    late = MeshCourse(
        prompt(), M, Plan(candidates=(peer("bob"), peer("carol"))), way.health, clock=lambda: way.now, alternate=nobody
    )
    assert late.next().node == "carol"


def nobody(peer: PeerId) -> None:
    """Makes no candidate."""


def test_a_private_request_is_never_sent_to_a_peer_even_if_planned() -> None:
    way = Way(peer("bob"), request=prompt(privacy=Privacy.CONFIDENTIAL))
    with pytest.raises(NobodyServes):
        way.course.next()
    assert way.health.record(PeerId("bob")) == UNKNOWN


# --- whose fault ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["invalid_value", "template_refused", "unsupported_parameter", "invalid_json"])
def test_an_error_of_the_request_is_the_callers_once_two_peers_say_so(code: str) -> None:
    way = Way(peer("bob"), peer("carol"), peer("dave"))
    asked, told = way.follow(refused(code), refused(code))
    assert asked == ["bob", "carol"]
    assert told is not None
    assert (told.code, told.message) == (code, "my own words.")
    assert way.health.record(PeerId("bob")) == UNKNOWN
    alone = Way(peer("bob")).follow(refused(code))
    assert (alone[0], alone[1] and alone[1].code) == (["bob"], code)
    lost = Way(peer("bob"), peer("carol")).follow(refused(code), Unreachable("gone."))
    assert (lost[0], lost[1] and lost[1].code) == (["bob", "carol"], code)


def test_a_peer_that_calls_a_good_request_wrong_has_failed() -> None:
    way = Way(peer("bob"), peer("carol"))
    assert way.follow(refused("invalid_value")) == (["bob", "carol"], None)
    way.course.done(Speed(0.1, 50.0))
    bob, carol = (way.health.record(PeerId(name)) for name in ("bob", "carol"))
    assert (bob.failures, carol.successes) == (1, 1)
    assert "called a request wrong" in bob.last_failure


def test_this_nodes_own_word_on_a_request_is_final() -> None:
    assert type(Way(HERE, peer("bob")).follow(TemplateRefused("roles must alternate."))[1]) is TemplateRefused


@pytest.mark.parametrize(
    "code",
    ["rate_limit_exceeded", "forbidden", "model_not_found", "body_too_large", "capability_unavailable", "conflict"],
)
def test_an_error_that_is_one_peers_own_is_not_the_callers(code: str) -> None:
    assert Way(peer("bob"), peer("carol")).follow(refused(code)) == (["bob", "carol"], None)


def test_a_prompt_that_is_too_long_goes_only_to_a_longer_context() -> None:
    error = ContextLengthExceeded("9 tokens of 8.")
    way = Way(peer("bob", context=8), peer("carol", context=8), peer("dave", context=16))
    assert way.follow(error) == (["bob", "dave"], None)
    assert way.course.lost(ContextLengthExceeded("17 of 16."), spoke=False) is not None
    assert Way(peer("bob", context=8), peer("carol", context=4)).follow(error) == (["bob"], error)


# --- what is learnt -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["overloaded", "rate_limit_exceeded", "draining", "model_loading", "insufficient_credits"]
)
def test_a_busy_peer_has_not_failed(code: str) -> None:
    way = Way(peer("bob"))
    way.follow(refused(code))
    assert way.health.record(PeerId("bob")) == UNKNOWN
    assert way.health.avoided(PeerId("bob"), way.now) == ""


@pytest.mark.parametrize("error", [Unreachable("x"), StreamReset("x"), refused("model_not_found"), refused("a secret")])
def test_a_peer_that_failed_is_left_alone_and_its_words_are_not_kept(error: MeshnodeError) -> None:
    way = Way(peer("bob"))
    _, told = way.follow(error)
    assert way.health.record(PeerId("bob")).failures == 1
    assert way.health.avoided(PeerId("bob"), way.now)
    shown = f"{told} {way.health.record(PeerId('bob'))} {way.course.route}"
    assert "secret" not in shown
    assert "words" not in shown


def test_a_peer_that_breaks_the_protocol_is_banned() -> None:
    way = Way(peer("bob"), peer("carol"))
    assert way.follow(ProtocolViolation("spoke out of turn.")) == (["bob", "carol"], None)
    assert way.health.banned(PeerId("bob"), way.now)


def test_a_peer_that_answered_is_measured() -> None:
    way = Way(peer("bob"))
    way.course.next()
    way.course.done(Speed(0.5, 20.0))
    history = way.health.record(PeerId("bob"))
    assert (history.successes, history.first_token_s, history.decode_tps) == (1, 0.5, 20.0)


def test_a_peer_that_never_begins_has_failed_but_not_by_the_callers_own_deadline() -> None:
    way = Way(peer("bob"))
    way.course.next()
    way.course.late()
    assert way.health.record(PeerId("bob")).failures == 1
    way = Way(peer("bob"), request=prompt(deadline_s=1.0))
    assert isinstance(way.follow(DeadlineExceeded("x"))[1], DeadlineExceeded)
    assert way.health.record(PeerId("bob")) == UNKNOWN


def test_nothing_is_learnt_of_this_node() -> None:
    way = Way(HERE)
    way.course.next()
    way.course.late()
    way.course.done(Speed(None, None))
    assert way.health.record(PeerId("alice")) == UNKNOWN


def test_what_is_wrong_with_this_machine_is_no_peers_fault() -> None:
    full = DiskFull("no room for a receipt.")
    way = Way(peer("bob"), peer("carol"), HERE)
    assert way.follow(full) == (["bob", "alice"], None)
    assert way.course.route.reason == "1 tried: this node: no room for a receipt"
    assert way.health.record(PeerId("bob")) == UNKNOWN
    assert Way(peer("bob"), peer("carol")).follow(full) == (["bob"], full)
    way = Way(peer("bob"), HERE)
    way.course.next()
    assert way.course.lost(full, spoke=True) is full
    assert Way(HERE, peer("bob")).follow(full) == (["alice", "bob"], None)


# --- the end --------------------------------------------------------------------------------------


def test_in_mid_answer_a_peers_failure_is_a_peers() -> None:
    kept = StreamReset("it gave up.")
    way = Way(peer("12D3KooWbobbob"), HERE)
    way.course.next()
    assert way.course.lost(kept, spoke=True) is kept
    way = Way(peer("12D3KooWbobbob"), HERE)
    way.course.next()
    told = way.course.lost(WorkerDied("its own words."), spoke=True)
    assert type(told) is PeerError
    assert told.message == "12D3…bobbob, which was answering, failed (worker_died)."
    assert way.health.record(PeerId("12D3KooWbobbob")).last_failure == "worker_died: in mid-answer"
    way = Way(HERE, peer("bob"))
    way.course.next()
    died = WorkerDied("it died.")
    assert way.course.lost(died, spoke=True) is died


def test_nobody_left_lists_everybodys_reason_and_the_soonest_return() -> None:
    no = Rejection(kind="peer", node="12D3KooWdave12", model=M, gate="context", reason="its context is too short")
    way = Way(HERE, peer("12D3KooWbobbob"), peer("12D3KooWcarol1"), rejections=(no,))
    _, told = way.follow(
        ModelFailed("it is broken."), refused("overloaded", retry_ms=9000), refused("overloaded", retry_ms=4000)
    )
    assert isinstance(told, NobodyServes)
    assert told.message == (
        "nobody serves m now: this node: it is broken; 12D3…bobbob refused (overloaded); "
        "12D3…carol1 refused (overloaded); 12D3…dave12 its context is too short."
    )
    assert told.retry_after_s == 4.0
    _, told = Way(peer("bob")).follow(Unreachable("x"))
    assert told is not None
    assert told.retry_after_s == 2.0


def test_alone_this_nodes_own_error_is_told() -> None:
    full = Overloaded("full.", retry_after_s=5.0)
    assert Way(HERE).follow(full) == (["alice"], full)
    no = Rejection(kind="peer", node="bob", model=M, gate="privacy", reason="not for peers")
    private = Way(HERE, rejections=(no,), request=prompt(privacy=Privacy.PROTECTED))
    assert private.follow(full) == (["alice"], full)


def test_a_plan_without_candidates_is_refused_by_its_gates() -> None:
    no = Rejection(kind="peer", node="bob", model=M, gate="privacy", reason="not for peers")
    way = Way(rejections=(no,), request=prompt(privacy=Privacy.PROTECTED))
    with pytest.raises(CapabilityUnavailable, match="protected"):
        way.course.next()
