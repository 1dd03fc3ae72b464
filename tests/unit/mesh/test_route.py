"""Plans: who may answer, and the named reason of everybody who may not."""

from __future__ import annotations

import pytest

from meshnode.domain import AudioPart, FilePart, GenerationRequest, ImagePart, Kind, Message, Part, Role, TextPart
from meshnode.engine.pipe import Gauge
from meshnode.engine.slot import ModelState
from meshnode.errors import CapabilityUnavailable, Draining, MeshnodeError, ModelFailed, Overloaded
from meshnode.mesh.route import Local, Plan, plan, refusal
from tests.kit.requests import card, prompt

CARD = card("m")


def local(state: str = "ready", *, reason: str = "", draining: bool = False, waiting: int = 0) -> Local:
    """This node, with the model in some state."""
    model = ModelState(id=CARD.id, state=state, reason=reason, gauge=Gauge(waiting=waiting))
    return Local(node="alice", card=CARD, state=model, draining=draining)


def with_part(part: Part) -> GenerationRequest:
    """A conversation that holds one part besides text."""
    message = Message(role=Role.USER, parts=(TextPart("what is this?"), part))
    return prompt(prompt=None, messages=(message,))


@pytest.mark.parametrize(
    ("state", "reason"),
    [("ready", "loaded here"), ("loading", "being loaded here"), ("unloaded", "here, to be loaded first")],
)
def test_this_node_is_a_candidate_whether_loaded_or_not(state: str, reason: str) -> None:
    made = plan(prompt(), local(state))
    assert [(c.kind, c.node, c.model, c.reason) for c in made.candidates] == [("local", "alice", CARD.id, reason)]
    assert made.rejections == ()


def test_a_queue_is_told() -> None:
    assert plan(prompt(), local(waiting=7)).candidates[0].reason == "loaded here, 7 waiting"


@pytest.mark.parametrize(
    ("request_", "here", "gate", "error"),
    [
        (prompt(), local(draining=True), "draining", Draining),
        (prompt(), local("failed", reason="killed by SIGSEGV"), "failed", ModelFailed),
        (prompt(kind=Kind.EMBED), local(), "kind", CapabilityUnavailable),
        (with_part(ImagePart("data:")), local(), "modality", CapabilityUnavailable),
        (with_part(AudioPart(b"", "wav")), local(), "modality", CapabilityUnavailable),
        (with_part(FilePart(b"")), local(), "modality", CapabilityUnavailable),
    ],
)
def test_each_gate_has_its_name_and_its_error(
    request_: GenerationRequest, here: Local, gate: str, error: type[MeshnodeError]
) -> None:
    made = plan(request_, here)
    assert made.candidates == ()
    assert [rejection.gate for rejection in made.rejections] == [gate]
    assert type(refusal(made)) is error
    assert made.rejections[0].reason in refusal(made).message


def test_a_plan_of_nobody_is_a_reason_to_come_back_later() -> None:
    error = refusal(Plan())
    assert isinstance(error, Overloaded)
    assert error.retry_after_s
