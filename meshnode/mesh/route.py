"""Who could answer a request, in which order, and why everybody else could not. Pure.

Candidates are ways to get an answer: this node's own engine, and peers with an offer that is good now. First come the
gates, of which each names its reason; then the expected time. This node goes first when it can answer, unless its queue
alone is worth more than twice a peer's whole answer. Among peers that are nearly equal one of two drawn at random goes
first, the less busy one, so that a thousand callers do not all choose the same.

A request of any class but ``standard`` is never sent to a peer, whatever the peer says of itself. What the caller
wishes of providers (:mod:`meshnode.mesh.preference`) is a gate too, and has the last word on the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from meshnode.domain import GenerationRequest, Kind, ModelCard, ModelId, PeerId, Preference, Privacy, Record
from meshnode.engine.slot import ModelState, model_failed
from meshnode.errors import (
    TOO_LONG,
    BodyTooLarge,
    CapabilityUnavailable,
    ContextLengthExceeded,
    Draining,
    MeshnodeError,
    NobodyServes,
)
from meshnode.mesh.estimate import Expected, Needs, busyness, cost_uc, needs, of_local, of_peer
from meshnode.mesh.greet import short
from meshnode.mesh.health import UNKNOWN, History
from meshnode.mesh.preference import FREE, NEAR, arranged, unwanted
from meshnode.wire.offer import ModelOffer

ENOUGH: Final = 256
"""Peers that pass the gates at most; whoever comes after them is not looked at."""
DRAWN: Final = 5
"""Places in the plan for which the nearly equal draw lots."""
MUCH_SLOWER: Final = 2.0
TOLD: Final = 10
"""Reasons listed in an error; the others are counted."""
RETRY_S: Final = 2.0

_STATES: Final = {"ready": "loaded here", "loading": "being loaded here", "unloaded": "here, to be loaded first"}
_CANNOT: Final = frozenset({"kind", "modality", "features"})

Draw = Callable[[int], int]
"""A random number from 0 up to, not including, its argument."""


class Local(Record, frozen=True, kw_only=True):
    """What this node knows of itself: the model's file and its state in the pool."""

    node: str
    card: ModelCard
    state: ModelState
    draining: bool = False


class Peer(Record, frozen=True, kw_only=True):
    """What is known of a peer that offers the model: its offer, the road to it, and how it did.

    ``privacy`` and ``max_body`` (bytes) are those of its whole offer, ``rtt_s`` is None until measured, ``avoided``
    says why it is not to be asked now.
    """

    peer: PeerId
    model: ModelOffer
    privacy: tuple[str, ...] = (Privacy.STANDARD,)
    max_body: int
    rtt_s: float | None = None
    connected: bool = False
    history: History = UNKNOWN
    avoided: str = ""


class Candidate(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One who can answer. ``kind`` is ``local`` or ``peer``, ``node`` a peer id, ``reason`` a few words.

    ``context`` in tokens, 0 when it is not known. ``first_ms`` of the expected milliseconds pass before the first
    token; ``rate`` is tokens per second after it, ``cost_uc`` what it would cost about.
    """

    kind: str
    node: str
    model: ModelId
    reason: str
    expected_ms: float = 0.0
    context: int = 0
    first_ms: float = 0.0
    rate: float = 0.0
    cost_uc: int = 0


class Rejection(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One who cannot. ``gate`` names the rule.

    ``draining failed kind modality provider`` for this node; ``privacy avoided provider failed kind modality features
    context body price deadline`` for a peer.
    """

    kind: str
    node: str
    model: ModelId
    gate: str
    reason: str


class Plan(Record, frozen=True, kw_only=True):
    """Candidates in the order they are to be tried, and everybody else with the reason."""

    candidates: tuple[Candidate, ...] = ()
    rejections: tuple[Rejection, ...] = ()


def plan(request: GenerationRequest, local: Local | None, peers: Iterable[Peer] = (), *, draw: Draw) -> Plan:
    """The plan of one request; ``local`` and ``peers`` have a model that its name stands for.

    Where peers are many, their order is to be another one for each caller: no more than :data:`ENOUGH` are compared.
    """
    need, wish = needs(request), request.provider
    rejections: list[Rejection] = []
    passed: list[tuple[Expected, Peer]] = []
    for peer in peers:
        if len(passed) >= ENOUGH:
            break
        expected = of_peer(need, peer.model, peer.history, peer.rtt_s, peer.connected)
        gate, reason = closed(need, wish, peer, expected)
        if gate:
            id_ = ModelId(peer.model.id)
            rejections.append(Rejection(kind="peer", node=peer.peer, model=id_, gate=gate, reason=reason))
        else:
            passed.append((expected, peer))
    roomy = [pair for pair in passed if pair[1].model.context >= need.full_context]
    tight = [pair for pair in passed if pair[1].model.context < need.full_context]
    ranked = _ranked(roomy, draw) + _ranked(tight, draw)
    chosen = [_candidate(need, expected, peer, len(passed)) for expected, peer in ranked]
    if local is not None:
        refused = _reject_local(need, wish, local)
        if refused is not None:
            rejections.insert(0, refused)
        else:
            chosen = _with_local(need, local, chosen)
    return Plan(candidates=tuple(arranged(wish, chosen)), rejections=tuple(rejections))


# --- this node ------------------------------------------------------------------------------------


def _reject_local(need: Needs, wish: Preference, local: Local) -> Rejection | None:
    """The first gate this node's engine does not pass."""
    gate, reason = closed_here(need, wish, local)
    if not gate:
        return None
    return Rejection(kind="local", node=local.node, model=local.card.id, gate=gate, reason=reason)


def closed_here(need: Needs, wish: Preference, local: Local) -> tuple[str, str]:
    """The first gate this node's engine does not pass, and its reason; empty when it passes them all."""
    card, state = local.card, local.state
    gate, reason = "", ""
    missing = sorted(need.modalities - set(card.modalities))
    if local.draining:
        gate, reason = "draining", "the node is stopping"
    elif need.kind is not Kind.COUNT and need.kind.value not in card.kinds:
        gate, reason = "kind", f"{card.id} serves {', '.join(card.kinds)} here, not {need.kind.value}"
    elif missing:
        gate, reason = "modality", f"{card.id} takes {', '.join(card.modalities)}, not {', '.join(missing)}"
    elif state.state == "failed":
        gate, reason = "failed", state.reason
    elif said := unwanted(wish, local=True, node=local.node, quantisation=card.quantisation, prices=FREE):
        gate, reason = "provider", said
    return gate, reason


def _with_local(need: Needs, local: Local, peers: list[Candidate]) -> list[Candidate]:
    """This node in its place among ``peers``: the first, or behind those that are much faster or hold the prompt."""
    state, expected = local.state, of_local(need, local.state)
    reason = _STATES[state.state]
    if state.state == "ready" and state.gauge.waiting:
        reason += f", {state.gauge.waiting} waiting"
    context = state.info.n_ctx if state.info else 0
    own = Candidate(
        kind="local",
        node=local.node,
        model=local.card.id,
        reason=reason,
        expected_ms=expected.total_ms,
        context=context,
        first_ms=expected.queue_ms + expected.first_ms,
        rate=_rate(need, expected),
    )
    best = min((peer.expected_ms for peer in peers), default=expected.total_ms)
    if context and need.least_context > context:
        return [*peers, own]  # by an estimate: the engine is the judge where nobody else can
    if expected.queue_ms <= MUCH_SLOWER * best:
        return [own, *peers]
    place = sum(peer.expected_ms < expected.total_ms for peer in peers)
    return [*peers[:place], own, *peers[place:]]


# --- peers ----------------------------------------------------------------------------------------


def closed(need: Needs, wish: Preference, peer: Peer, expected: Expected) -> tuple[str, str]:
    """The first gate a peer does not pass, and its reason; empty when it passes them all."""
    model = peer.model
    if need.privacy is not Privacy.STANDARD or Privacy.STANDARD.value not in peer.privacy:
        return "privacy", f"privacy class {need.privacy.value} is not for peers"
    if peer.avoided:
        return "avoided", peer.avoided
    quantisation = model.quantisation
    if said := unwanted(wish, local=False, node=peer.peer, quantisation=quantisation, prices=model.prices):
        return "provider", said
    if model.state == "failed":
        return "failed", "its model has failed"
    if need.kind is Kind.COUNT:
        return "kind", f"counts no tokens for others; load {model.id} here for that"
    if need.kind.value not in model.kinds:
        return "kind", f"does not serve {need.kind.value}"
    if not need.modalities <= set(model.modalities):
        return "modality", f"takes no {min(need.modalities - set(model.modalities))}"
    if not need.features <= set(model.features):
        return "features", f"has no {min(need.features - set(model.features))}"
    return _amount_gate(need, peer, expected)


def _amount_gate(need: Needs, peer: Peer, expected: Expected) -> tuple[str, str]:
    model = peer.model
    if need.least_context > model.context:
        return "context", f"its context of {model.context} tokens is too short for about {need.least_context}"
    if need.body > peer.max_body:
        return "body", f"takes {peer.max_body} bytes, not {need.body}"
    if need.max_cost_uc is not None:
        price = cost_uc(model.prices, prompt=need.prompt, output=need.output)
        if price > need.max_cost_uc:
            return "price", f"would cost about {price} µc, over {need.max_cost_uc}"
    if need.deadline_s is not None and expected.queue_ms + expected.first_ms > 1000 * need.deadline_s:
        return "deadline", f"would begin after about {(expected.queue_ms + expected.first_ms) / 1000:.1f} s"
    return "", ""


def _ranked(passed: list[tuple[Expected, Peer]], draw: Draw) -> list[tuple[Expected, Peer]]:
    """The fastest first; for the first places the nearly equal draw lots."""
    rest = sorted(passed, key=lambda pair: pair[0].total_ms)
    first: list[tuple[Expected, Peer]] = []
    while rest and len(first) < DRAWN:
        bound = NEAR * rest[0][0].total_ms
        near = 1
        while near < len(rest) and rest[near][0].total_ms <= bound:
            near += 1
        first.append(rest.pop(_one_of_two(rest, near, draw)))
    return first + rest


def _one_of_two(rest: list[tuple[Expected, Peer]], near: int, draw: Draw) -> int:
    if near == 1:
        return 0
    one = draw(near)
    other = (one + 1 + draw(near - 1)) % near
    return min(one, other, key=lambda at: (busyness(rest[at][1].model), rest[at][0].total_ms))


def _rate(need: Needs, expected: Expected) -> float:
    """Tokens per second once an answer has begun, as it was estimated."""
    return 1000 * need.output / expected.rest_ms if expected.rest_ms else 0.0


def _candidate(need: Needs, expected: Expected, peer: Peer, of: int) -> Candidate:
    model = peer.model
    reason = f"1 of {of} peers" if of > 1 else "the one peer"
    if model.state != "ready":
        reason += ", to be loaded first"
    elif expected.queue_ms:
        reason += f", {model.queue} waiting"
    return Candidate(
        kind="peer",
        node=peer.peer,
        model=ModelId(model.id),
        reason=reason,
        expected_ms=expected.total_ms,
        context=model.context,
        first_ms=expected.queue_ms + expected.first_ms,
        rate=_rate(need, expected),
        cost_uc=cost_uc(model.prices, prompt=need.prompt, output=need.output),
    )


# --- when nobody can ------------------------------------------------------------------------------


def refusal(request: GenerationRequest, model: ModelId, rejections: Iterable[Rejection]) -> MeshnodeError:
    """The error for the caller of a plan without candidates, ``model`` being what its name stands for."""
    told = tuple(rejections)
    gates = {rejection.gate for rejection in told}
    if "privacy" in gates and request.privacy is not Privacy.STANDARD:
        return _private(request.privacy, model, told)
    if gates == {"provider"}:
        return _unwelcome(model, told)
    if len(told) == 1 and told[0].kind == "local":
        return _alone(told[0])
    if gates and gates <= _CANNOT:
        return CapabilityUnavailable(f"{told[0].reason}.", hint="Use another model or endpoint.", param="model")
    if gates == {"context"}:
        return ContextLengthExceeded(f"{TOO_LONG}: {told[0].reason}; nobody has a longer one.", hint="Ask for less.")
    if gates == {"body"}:
        return BodyTooLarge(f"the one that serves {model} {told[0].reason}.", hint="Send less.")
    if gates == {"price"}:
        return CapabilityUnavailable(f"{model} {told[0].reason}.", hint="Allow more (max_cost).", param="max_cost")
    return nobody(model, [f"{who(rejection)} {rejection.reason}" for rejection in told], RETRY_S)


def nobody(model: ModelId, reasons: list[str], retry_after_s: float) -> NobodyServes:
    """The error of a model that is known, when everybody has a reason not to serve it."""
    listed = "; ".join(reasons[:TOLD]) + (f"; and {len(reasons) - TOLD} more" if len(reasons) > TOLD else "")
    what = f"nobody serves {model} now" + (f": {listed}." if listed else ".")
    return NobodyServes(what, hint="Try again later.", retry_after_s=retry_after_s)


def who(one: Rejection | Candidate) -> str:
    """This node, or a peer, in an error's words."""
    return "this node:" if one.kind == "local" else f"{short(PeerId(one.node))}"


def _private(privacy: Privacy, model: ModelId, told: tuple[Rejection, ...]) -> CapabilityUnavailable:
    own = [rejection.reason for rejection in told if rejection.kind == "local"]
    why = f"this node cannot ({own[0]})" if own else f"{model} is not here"
    what = f"privacy class {privacy.value} keeps the request on this node, and {why}."
    return CapabilityUnavailable(what, hint="Use a model that is here.", param="privacy")


def _unwelcome(model: ModelId, told: tuple[Rejection, ...]) -> CapabilityUnavailable:
    reasons = "; ".join(f"{who(rejection)} {rejection.reason}" for rejection in told[:TOLD])
    hint = "Allow more providers."
    return CapabilityUnavailable(f"provider leaves nobody to serve {model}: {reasons}.", hint=hint, param="provider")


def _alone(rejection: Rejection) -> MeshnodeError:
    if rejection.gate == "draining":
        return Draining(f"{rejection.reason}.", hint="Try another node, or this one again later.")
    if rejection.gate == "failed":
        return model_failed(rejection.model, rejection.reason)
    return CapabilityUnavailable(f"{rejection.reason}.", hint="Use another model or endpoint.", param="model")
