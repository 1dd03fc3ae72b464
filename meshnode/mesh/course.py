"""The course of a request through a mesh: a plan's candidates one after the other, and what is learnt of each. Pure.

What a peer says of its own failure is never shown on, but for its code: only its refusal of the request itself, which
is the caller's to mend, reaches the caller as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from meshnode.domain import FIRST_TOKEN_S, GenerationRequest, ModelId, PeerId, Privacy
from meshnode.errors import (
    BodyTooLarge,
    CapabilityUnavailable,
    Conflict,
    ContextLengthExceeded,
    DeadlineExceeded,
    Draining,
    InvalidField,
    MalformedBody,
    MeshnodeError,
    ModelLoading,
    Overloaded,
    OwnerError,
    PaymentRequired,
    PeerError,
    ProtocolViolation,
    RateLimited,
    TemplateRefused,
    UnknownField,
    UnsupportedParameter,
)
from meshnode.mesh.answer import Route
from meshnode.mesh.asker import PeerRefused, meant
from meshnode.mesh.failover import Speed
from meshnode.mesh.greet import short
from meshnode.mesh.health import Health
from meshnode.mesh.route import RETRY_S, Candidate, Plan, nobody, refusal, who

MOST: Final = 5
"""Attempts at one request, this node's own included."""
_SHOWN: Final = 3

CALLERS: Final = (
    MalformedBody,
    InvalidField,
    UnknownField,
    UnsupportedParameter,
    TemplateRefused,
    ContextLengthExceeded,
)
"""Errors that say that the request itself is wrong; anybody else would say the same."""
_PATIENT: Final = (
    *CALLERS,
    Overloaded,
    RateLimited,
    Draining,
    ModelLoading,
    PaymentRequired,
    Conflict,
    BodyTooLarge,
    CapabilityUnavailable,
)
"""What a peer in good health may say."""


class MeshCourse:
    """A :class:`meshnode.mesh.failover.Course` over a plan.

    ``clock`` is the one of ``health``; ``alternate`` gives the candidate that a peer which another one named makes for
    this request, None where it makes none.
    """

    def __init__(
        self,
        request: GenerationRequest,
        model: ModelId,
        planned: Plan,
        health: Health,
        *,
        clock: Callable[[], float],
        alternate: Callable[[PeerId], Candidate | None],
    ) -> None:
        self._request = request
        self._model = model
        self._waiting = deque(planned.candidates)
        self._rejected = list(planned.rejections)
        self._health = health
        self._clock = clock
        self._alternate = alternate
        self._asked: Candidate | None = None
        self._peers: set[str] = set()
        self._own_died = False
        self._accused: MeshnodeError | None = None
        self._accuser: PeerId | None = None
        self._reasons: list[str] = []
        self._errors: list[MeshnodeError] = []
        first = planned.candidates[0] if planned.candidates else None
        self._route = Route(
            kind=first.kind if first else "peer", model=model, node=first.node if first else "", attempts=0
        )

    @property
    def route(self) -> Route:
        """The road so far."""
        return self._route

    def next(self) -> Candidate:
        """Who is to be asked now. Raises what the caller is told when there is nobody."""
        while self._waiting and self._route.attempts < MOST:
            candidate = self._waiting.popleft()
            if candidate.kind == "peer" and not self._may_ask(candidate):
                continue
            self._asked = candidate
            attempts = self._route.attempts + 1
            reason = candidate.reason if attempts == 1 else _tried(self._reasons)
            self._route = Route(
                kind=candidate.kind, model=candidate.model, node=candidate.node, attempts=attempts, reason=reason
            )
            return candidate
        raise self._ending()

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """See the protocol. An error of the request itself goes to the caller once two say so, or there is no other.

        One for its length is worth asking those with a longer context.
        """
        candidate = self._asked
        assert candidate is not None, "next() comes first"
        remote = candidate.kind == "peer"
        meaning = meant(error) if remote else error
        if remote:
            self._learn(PeerId(candidate.node), meaning, "in mid-answer" if spoke else "before its first token")
        if remote and isinstance(meaning, OwnerError):  # no peer can be paid: this node's own engine is what is left
            self._waiting = deque(other for other in self._waiting if other.kind == "local")
            if spoke or not self._waiting:
                return meaning
        if spoke:
            return _broken(candidate, meaning) if remote else meaning
        if isinstance(meaning, ContextLengthExceeded):
            self._waiting = deque(c for c in self._waiting if not 0 < c.context <= candidate.context)
        if isinstance(meaning, CALLERS) and not (isinstance(meaning, ContextLengthExceeded) and self._waiting):
            if not remote or self._accused is not None or not self._waiting:
                return meaning
            self._accused, self._accuser = meaning, PeerId(candidate.node)  # one peer's word: another is asked
        self._reasons.append(_reason(candidate, error, meaning))
        self._errors.append(meaning)
        if isinstance(error, PeerRefused):
            self._follow(error.alternates)
        if meaning.code == "worker_died" and not remote and not self._own_died:
            self._own_died = True
            self._waiting.append(candidate)  # to the engine that replaces it, when nobody else can
        return None if self._waiting and self._route.attempts < MOST else self._ending()

    def late(self) -> None:
        """A peer that keeps a caller waiting for ever has failed."""
        if self._asked is not None and self._asked.kind == "peer":
            reason = f"no first token within {FIRST_TOKEN_S:g} s"
            self._health.failed(PeerId(self._asked.node), DeadlineExceeded.code, reason)

    def done(self, speed: Speed) -> None:
        """A peer has answered; who called the request wrong before was wrong."""
        if self._accuser is not None and self._asked is not None and self._asked.node != self._accuser:
            reason = "it called a request wrong that another peer answered"
            self._health.failed(self._accuser, PeerError.code, reason)
        if self._asked is not None and self._asked.kind == "peer":
            self._health.succeeded(PeerId(self._asked.node), speed.first_token_s, speed.decode_tps)

    # --- peers --------------------------------------------------------------------------------

    def _may_ask(self, candidate: Candidate) -> bool:
        """Whether a peer may be asked now, which is noted; what other requests met with since the plan counts."""
        peer = PeerId(candidate.node)
        if peer in self._peers or self._request.privacy is not Privacy.STANDARD:
            return False
        if avoided := self._health.avoided(peer, self._clock()):
            self._reasons.append(f"{short(peer)} {avoided}")
            return False
        self._peers.add(peer)
        self._health.began(peer)
        return True

    def _learn(self, peer: PeerId, meaning: MeshnodeError, when: str) -> None:
        if isinstance(meaning, ProtocolViolation):
            self._health.violated(peer, when)
        elif isinstance(meaning, (*_PATIENT, OwnerError)) or _own_deadline(self._request, meaning):
            self._health.refused(peer)
        else:
            self._health.failed(peer, meaning.code, when)

    def _follow(self, alternates: tuple[PeerId, ...]) -> None:
        """Add the peers that one which refused has named, behind those that the plan has."""
        waiting = {candidate.node for candidate in self._waiting}
        for peer in alternates:
            if peer not in waiting and peer not in self._peers and (candidate := self._alternate(peer)) is not None:
                self._waiting.append(candidate)
                waiting.add(peer)

    # --- the end ------------------------------------------------------------------------------

    def _ending(self) -> MeshnodeError:
        """What the caller is told when nobody is left."""
        if self._accused is not None:
            return self._accused
        if not self._errors and not self._reasons:
            return refusal(self._request, self._model, self._rejected)
        alone = len(self._errors) == len(self._reasons) and len(set(map(type, self._errors))) == 1
        own = self._asked is not None and self._asked.kind == "local" and not self._peers
        private = self._request.privacy is not Privacy.STANDARD
        if own and self._errors and (private or not self._rejected):
            return self._errors[-1]
        if alone and isinstance(self._errors[-1], DeadlineExceeded):
            return self._errors[-1]
        waits = [error.retry_after_s for error in self._errors if error.retry_after_s is not None]
        reasons = self._reasons + [f"{who(rejection)} {rejection.reason}" for rejection in self._rejected]
        return nobody(self._model, reasons, min(waits, default=RETRY_S))


def _own_deadline(request: GenerationRequest, meaning: MeshnodeError) -> bool:
    """Whether the caller's own deadline ended it."""
    return isinstance(meaning, DeadlineExceeded) and request.deadline_s is not None


def _reason(candidate: Candidate, error: MeshnodeError, meaning: MeshnodeError) -> str:
    if candidate.kind == "local" or isinstance(meaning, OwnerError):
        return f"this node: {meaning.message.rstrip('.')}"
    did = "refused" if isinstance(error, PeerRefused) else "failed"
    return f"{short(PeerId(candidate.node))} {did} ({meaning.code})"


def _broken(candidate: Candidate, meaning: MeshnodeError) -> MeshnodeError:
    """What a peer's failure in mid-answer is to the caller: a peer's, whatever it calls it."""
    if isinstance(meaning, PeerError | DeadlineExceeded):
        return meaning
    what = f"{short(PeerId(candidate.node))}, which was answering, failed ({meaning.code})."
    return PeerError(what, hint="What came before is all there is of this answer; ask again.")


def _tried(reasons: list[str]) -> str:
    """A few words for a header, whose parts are set apart by semicolons."""
    shown = ", ".join(reasons[-_SHOWN:]).replace(";", ",").replace("…", "..")
    return f"{len(reasons)} tried: {shown}"
