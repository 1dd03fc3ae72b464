"""Who could answer a request, in which order, and why everybody else could not. Pure.

Candidates are ways to get an answer; so far the only one is this node's own engine. A plan names a reason for
each, taken or rejected, which is what the caller is told.
"""

from __future__ import annotations

from meshnode.domain import AudioPart, FilePart, GenerationRequest, ImagePart, Kind, ModelCard, ModelId, Record
from meshnode.engine.slot import ModelState, model_failed
from meshnode.errors import CapabilityUnavailable, Draining, MeshnodeError, Overloaded

_REASONS = {
    "ready": "loaded here",
    "loading": "being loaded here",
    "unloaded": "here, to be loaded first",
}
_MEDIA: dict[type, str] = {ImagePart: "image", AudioPart: "audio", FilePart: "file"}


class Candidate(Record, frozen=True, kw_only=True):
    """One who can answer. ``kind`` is ``local`` or ``peer``, ``node`` a peer id, ``reason`` a few words."""

    kind: str
    node: str
    model: ModelId
    reason: str


class Rejection(Record, frozen=True, kw_only=True):
    """One who cannot. ``gate`` names the rule: ``draining``, ``failed``, ``kind`` or ``modality``."""

    kind: str
    node: str
    model: ModelId
    gate: str
    reason: str


class Plan(Record, frozen=True, kw_only=True):
    """Candidates in the order they are to be tried, and everybody else with the reason."""

    candidates: tuple[Candidate, ...] = ()
    rejections: tuple[Rejection, ...] = ()


class Local(Record, frozen=True, kw_only=True):
    """What this node knows of itself: the model's file and its state in the pool."""

    node: str
    card: ModelCard
    state: ModelState
    draining: bool = False


def plan(request: GenerationRequest, local: Local) -> Plan:
    """The plan of one request for the model that its name stands for."""
    rejection = _reject(request, local)
    if rejection is not None:
        return Plan(rejections=(rejection,))
    reason = _REASONS[local.state.state]
    if local.state.state == "ready" and local.state.gauge.waiting:
        reason += f", {local.state.gauge.waiting} waiting"
    return Plan(candidates=(Candidate(kind="local", node=local.node, model=local.card.id, reason=reason),))


def _reject(request: GenerationRequest, local: Local) -> Rejection | None:
    """The first gate this node's engine does not pass."""
    gate, reason = "", ""
    missing = sorted(_modalities(request) - set(local.card.modalities))
    if local.draining:
        gate, reason = "draining", "the node is stopping"
    elif request.kind is not Kind.GENERATE:
        gate, reason = "kind", f"{local.card.id} serves generate here, not {request.kind.value}"
    elif missing:
        gate, reason = "modality", f"{local.card.id} takes {', '.join(local.card.modalities)}, not {', '.join(missing)}"
    elif local.state.state == "failed":
        gate, reason = "failed", local.state.reason
    if not gate:
        return None
    return Rejection(kind="local", node=local.node, model=local.card.id, gate=gate, reason=reason)


def _modalities(request: GenerationRequest) -> set[str]:
    """What a model must be able to take in, besides text."""
    parts = (part for message in request.messages for part in message.parts)
    return {_MEDIA[type(part)] for part in parts if type(part) in _MEDIA}


def refusal(plan: Plan) -> MeshnodeError:
    """The error for the caller of a plan without candidates."""
    if not plan.rejections:
        return Overloaded("nobody serves this model now.", hint="Try again later.", retry_after_s=5.0)
    first = plan.rejections[0]
    if first.gate == "draining":
        return Draining(f"{first.reason}.", hint="Try another node, or this one again later.")
    if first.gate == "failed":
        return model_failed(first.model, first.reason)
    return CapabilityUnavailable(f"{first.reason}.", hint="Use another model or endpoint.", param="model")
