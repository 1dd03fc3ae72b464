"""Plans: who may answer, in which order, and the named reason of everybody who may not."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import (
    AudioPart,
    FilePart,
    GenerationRequest,
    ImagePart,
    Kind,
    Message,
    ModelId,
    Part,
    PeerId,
    Privacy,
    Role,
    TextPart,
)
from meshnode.engine.pipe import EngineInfo, Gauge
from meshnode.engine.slot import ModelState
from meshnode.errors import (
    BodyTooLarge,
    CapabilityUnavailable,
    ContextLengthExceeded,
    Draining,
    MeshnodeError,
    ModelFailed,
    NobodyServes,
)
from meshnode.mesh.health import History
from meshnode.mesh.route import ENOUGH, TOLD, Local, Peer, Plan, nobody, plan, refusal
from meshnode.wire.fields import Prices
from tests.kit.askers import model_offer
from tests.kit.requests import card, prompt

CARD = card("m")


def first(of: int) -> int:
    """No chance at all."""
    return 0


def info(**fields: Any) -> EngineInfo:
    """A loaded engine."""
    shape: dict[str, Any] = {"n_ctx": 4096, "n_ctx_train": 4096, "n_seq_max": 4, "n_vocab": 10, "n_layers": 1}
    place: dict[str, Any] = {"gpu_layers": 0, "devices": (), "used_devices": (), "backends": (), "system_info": ""}
    rest: dict[str, Any] = {"threads": 1, "threads_batch": 1, "n_params": 1, "size_bytes": 1, "has_template": True}
    return EngineInfo(
        **(shape | place | rest | {"template_sha256": "", "decode_tps": 50.0, "prefill_tps": 500.0} | fields)
    )


def local(
    state: str = "ready",
    *,
    reason: str = "",
    draining: bool = False,
    waiting: int = 0,
    running: int = 0,
    info: EngineInfo | None = None,
) -> Local:
    """This node, with the model in some state."""
    gauge = Gauge(waiting=waiting, running=running)
    model = ModelState(id=CARD.id, state=state, reason=reason, gauge=gauge, info=info)
    return Local(node="alice", card=CARD, state=model, draining=draining)


def peer(name: str = "bob", **fields: Any) -> Peer:
    """A peer, connected and near; what is no field of its own is one of the model it offers."""
    own = {key: fields.pop(key) for key in list(fields) if key in Peer.__struct_fields__}
    defaults: dict[str, Any] = {"max_body": 1 << 20, "rtt_s": 0.01, "connected": True, "model": model_offer(**fields)}
    return Peer(peer=PeerId(name), **(defaults | own))


def with_part(part: Part) -> GenerationRequest:
    """A conversation that holds one part besides text."""
    message = Message(role=Role.USER, parts=(TextPart("what is this?"), part))
    return prompt(prompt=None, messages=(message,))


def order(made: Plan) -> list[str]:
    """Who is tried, in order."""
    return [candidate.node for candidate in made.candidates]


# --- this node ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason"),
    [("ready", "loaded here"), ("loading", "being loaded here"), ("unloaded", "here, to be loaded first")],
)
def test_this_node_is_a_candidate_whether_loaded_or_not(state: str, reason: str) -> None:
    made = plan(prompt(), local(state), draw=first)
    assert [(c.kind, c.node, c.model, c.reason) for c in made.candidates] == [("local", "alice", CARD.id, reason)]
    assert made.rejections == ()


def test_counting_is_done_here_whatever_the_model_is_for_and_nowhere_else() -> None:
    request = prompt(kind=Kind.COUNT)
    embeds = Local(node="alice", card=card("m", kinds=("embed",)), state=ModelState(id=CARD.id))
    made = plan(request, embeds, [peer(kinds=("generate", "count"))], draw=first)
    assert order(made) == ["alice"]
    away = plan(request, None, [peer(kinds=("generate", "count"))], draw=first)
    refused = refusal(request, CARD.id, away.rejections)
    assert isinstance(refused, CapabilityUnavailable)
    assert "counts no tokens for others" in refused.message


def test_a_queue_is_told() -> None:
    assert plan(prompt(), local(waiting=7), draw=first).candidates[0].reason == "loaded here, 7 waiting"


@pytest.mark.parametrize(
    ("request_", "here", "gate", "error"),
    [
        (prompt(), local(draining=True), "draining", Draining),
        (prompt(), local("failed", reason="killed by SIGSEGV"), "failed", ModelFailed),
        (prompt(kind=Kind.RERANK), local(), "kind", CapabilityUnavailable),
        (with_part(ImagePart("data:")), local(), "modality", CapabilityUnavailable),
        (with_part(AudioPart(b"", "wav")), local(), "modality", CapabilityUnavailable),
        (with_part(FilePart(b"")), local(), "modality", CapabilityUnavailable),
    ],
)
def test_each_gate_has_its_name_and_its_error(
    request_: GenerationRequest, here: Local, gate: str, error: type[MeshnodeError]
) -> None:
    made = plan(request_, here, draw=first)
    assert made.candidates == ()
    assert [rejection.gate for rejection in made.rejections] == [gate]
    told = refusal(request_, CARD.id, made.rejections)
    assert type(told) is error
    assert made.rejections[0].reason in told.message


def test_this_node_goes_first_unless_its_queue_alone_takes_much_longer() -> None:
    quick = peer(decode_tps=500.0, first_token_ms=10.0)
    assert order(plan(prompt(tokens=100), local(info=info()), [quick], draw=first)) == ["alice", "bob"]
    loading = local("unloaded")
    assert order(plan(prompt(tokens=100), loading, [quick], draw=first)) == ["alice", "bob"]
    full = local(info=info(), running=4, waiting=20)
    assert order(plan(prompt(tokens=100), full, [quick], draw=first)) == ["bob", "alice"]
    slow = peer("carol", decode_tps=0.1)
    assert order(plan(prompt(tokens=100), full, [slow, quick], draw=first)) == ["bob", "alice", "carol"]


def test_this_node_comes_last_where_its_context_seems_too_short() -> None:
    long = prompt("x" * 4 * 5000)
    made = plan(long, local(info=info(n_ctx=4096)), [peer(context=32768)], draw=first)
    assert order(made) == ["bob", "alice"]
    assert order(plan(long, local(info=info(n_ctx=4096)), draw=first)) == ["alice"]


def test_who_has_room_for_a_whole_answer_goes_before_who_would_have_to_end_it_sooner() -> None:
    asked = prompt(tokens=1000)
    roomy, tight = peer("roomy", context=2000, decode_tps=1.0), peer("tight", context=1000)
    assert order(plan(asked, None, [tight, roomy], draw=first)) == ["roomy", "tight"]
    assert order(plan(asked, local(info=info(n_ctx=900)), [tight, roomy], draw=first)) == ["alice", "roomy", "tight"]
    assert order(plan(asked, None, [tight], draw=first)) == ["tight"]


# --- peers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "other", "gate", "error"),
    [
        (prompt(privacy=Privacy.PROTECTED), peer(), "privacy", CapabilityUnavailable),
        (prompt(privacy=Privacy.CONFIDENTIAL), peer(privacy=tuple(Privacy)), "privacy", CapabilityUnavailable),
        (prompt(), peer(privacy=("protected",)), "privacy", NobodyServes),
        (prompt(), peer(avoided="failed, not asked for 2 s"), "avoided", NobodyServes),
        (prompt(), peer(state="failed"), "failed", NobodyServes),
        (prompt(kind=Kind.EMBED), peer(), "kind", CapabilityUnavailable),
        (with_part(ImagePart("data:")), peer(), "modality", CapabilityUnavailable),
        (prompt(top_logprobs=1), peer(), "features", CapabilityUnavailable),
        (prompt("x" * 8000), peer(context=1000), "context", ContextLengthExceeded),
        (prompt("x" * 1000), peer(max_body=999), "body", BodyTooLarge),
        (prompt(max_cost_uc=99), peer(prices=Prices(0, 0, 0, 100)), "price", CapabilityUnavailable),
        (prompt(tokens=10, max_cost_uc=99), peer(prices=Prices(0, 0, 10, 0)), "price", CapabilityUnavailable),
        (prompt(deadline_s=1.0), peer(first_token_ms=1000.0), "deadline", NobodyServes),
        (prompt(deadline_s=1.0), peer(free=0, queue=100), "deadline", NobodyServes),
    ],
)
def test_each_gate_for_peers_has_its_name_and_its_error(
    request_: GenerationRequest, other: Peer, gate: str, error: type[MeshnodeError]
) -> None:
    made = plan(request_, None, [other], draw=first)
    assert made.candidates == ()
    assert [(rejection.node, rejection.gate) for rejection in made.rejections] == [("bob", gate)]
    told = refusal(request_, ModelId("m"), made.rejections)
    assert type(told) is error
    if request_.privacy is not Privacy.STANDARD:
        assert request_.privacy in told.message


def test_what_a_peer_has_is_no_reason_against_it() -> None:
    asked = prompt("x" * 4000, tokens=100, top_logprobs=1, max_cost_uc=2100, deadline_s=5.0)
    made = plan(asked, None, [peer(features=("logprobs",), max_body=4000, context=1101)], draw=first)
    assert order(made) == ["bob"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (peer("x"), peer("y", first_token_ms=900.0)),
        (peer("x"), peer("y", decode_tps=10.0)),
        (peer("x"), peer("y", free=0, queue=5)),
        (peer("x"), peer("y", state="unloaded")),
        (peer("x"), peer("y", rtt_s=3.0)),
        (peer("x", rtt_s=1.0), peer("y", rtt_s=1.0, connected=False)),
        (peer("x"), peer("y", history=History(score=0.3, failures=9))),
        (peer("x"), peer("y", decode_tps=1e9, history=History(decode_tps=5.0))),
        (peer("x"), peer("y", first_token_ms=1.0, history=History(first_token_s=4.0))),
    ],
)
def test_who_is_expected_to_be_faster_is_asked_first(better: Peer, worse: Peer) -> None:
    for both in ([better, worse], [worse, better]):
        assert order(plan(prompt(tokens=20), None, both, draw=random.randrange)) == ["x", "y"]


def test_a_thousand_callers_do_not_all_choose_the_same() -> None:
    draw = random.Random(7).randrange
    equals = [peer(f"p{number}") for number in range(20)]
    counted = Counter(order(plan(prompt(), None, equals, draw=draw))[0] for _ in range(1000))
    assert len(counted) == 20
    assert max(counted.values()) < 120
    busy = [peer(f"p{number}", free=1) for number in range(10)] + [peer(f"q{number}") for number in range(10)]
    counted = Counter(order(plan(prompt(), None, busy, draw=draw))[0][0] for _ in range(1000))
    assert counted["q"] > 650


def test_of_very_many_only_the_first_that_pass_are_compared() -> None:
    many = [peer(f"p{number}", state="failed" if number % 2 else "ready") for number in range(4 * ENOUGH)]
    made = plan(prompt(), None, many, draw=first)
    assert len(made.candidates) == ENOUGH
    assert len(made.rejections) == ENOUGH - 1


# --- refusals -------------------------------------------------------------------------------------


def test_a_private_request_is_refused_by_its_class_even_where_this_node_has_the_model() -> None:
    asked = prompt(privacy=Privacy.CONFIDENTIAL)
    made = plan(asked, local("failed", reason="it is broken"), [peer()], draw=first)
    told = refusal(asked, CARD.id, made.rejections)
    assert type(told) is CapabilityUnavailable
    assert told.message == (
        "privacy class confidential keeps the request on this node, and this node cannot (it is broken)."
    )
    assert order(plan(asked, local(), [peer()], draw=first)) == ["alice"]


def test_a_plan_of_nobody_is_a_reason_to_come_back_later() -> None:
    error = refusal(prompt(), CARD.id, ())
    assert isinstance(error, NobodyServes)
    assert error.retry_after_s


def test_reasons_are_listed_up_to_a_bound_and_then_counted() -> None:
    made = plan(
        prompt(), local("failed", reason="it is broken"), [peer(f"p{n}", avoided="no") for n in range(30)], draw=first
    )
    told = refusal(prompt(), CARD.id, made.rejections)
    assert "this node: it is broken" in told.message
    assert f"and {31 - TOLD} more" in told.message
    assert nobody(ModelId("m"), ["a", "b"], 2.0).message == "nobody serves m now: a; b."


# --- whatever it is -------------------------------------------------------------------------------

peers = st.builds(
    lambda name, state, avoided, context, free, score: peer(
        name, state=state, avoided=avoided, context=context, free=free, history=History(score=score)
    ),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(["ready", "unloaded", "failed"]),
    st.sampled_from(["", "avoided"]),
    st.integers(0, 100) | st.integers(0, 8192),
    st.integers(0, 4),
    st.floats(0, 1),
)


@given(
    st.lists(peers, max_size=12),
    st.sampled_from([None, local(), local("failed", reason="x"), local(waiting=99), local(info=info(n_ctx=40))]),
    st.sampled_from(list(Privacy)),
    st.randoms(use_true_random=False),
)
def test_everybody_is_a_candidate_or_has_a_reason(
    others: list[Peer], here: Local | None, privacy: Privacy, chance: random.Random
) -> None:
    asked = prompt(tokens=50, privacy=privacy)
    made = plan(asked, here, others, draw=chance.randrange)
    planned = [*order(made), *(rejection.node for rejection in made.rejections)]
    assert Counter(planned) == Counter([each.peer for each in others] + (["alice"] if here else []))
    assert all(re.fullmatch("[a-z]+", rejection.gate) and rejection.reason for rejection in made.rejections)
    if privacy is not Privacy.STANDARD:
        assert all(candidate.kind == "local" for candidate in made.candidates)
    if not made.candidates:
        assert isinstance(refusal(asked, CARD.id, made.rejections), MeshnodeError)
