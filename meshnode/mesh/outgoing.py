"""One request on its way to a peer: what is asked, what comes back, and when the peer counts as hung.

The session of :mod:`meshnode.mesh.ask` puts events in; one reader takes them out. Credit bounds what is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple, Protocol

import msgspec
import trio

from meshnode.domain import FinishReason, GenerationRequest, Kind
from meshnode.errors import CapabilityUnavailable, MeshnodeError, ProtocolViolation
from meshnode.events import (
    CLOSING,
    STANDING,
    Charge,
    ChoiceFinished,
    Event,
    Finished,
    Heartbeat,
    Usage,
    decoded_tokens,
    failure,
)
from meshnode.mesh.admission import LONGEST_DEADLINE_S
from meshnode.mesh.asker import PeerHung, theirs
from meshnode.mesh.estimate import affordable, features, needs
from meshnode.mesh.greet import Self
from meshnode.mesh.settle import Bill
from meshnode.mesh.talk import ACCEPT_S, HANG_S
from meshnode.wire import messages as m
from meshnode.wire.body import body_of, encode_body, sha256
from meshnode.wire.canonical import encode
from meshnode.wire.fields import Prices
from meshnode.wire.offer import ModelOffer, Offer
from meshnode.wire.scrutiny import Scrutiny, scrutiny_of

CREDIT: Final = 256
"""Tokens a provider may send ahead of this node's reader, per request."""
LONGEST_DEADLINE_MS: Final = round(1000 * LONGEST_DEADLINE_S)
_CHARACTERS_PER_TOKEN: Final = 4
_LOOK_S: Final = 1.0
PROGRESS_S: Final = 120.0
"""How long an answer that has begun may stand still, whatever signs of life its provider gives."""


class Draft(NamedTuple):
    """A request ready to be asked for: its terms, signed, and its body.

    Its reader may be ``most_held`` events behind: those of its credit, and vectors, which take none. ``most_uc`` is
    what the request may cost, ``choices`` how many answers it wants, 0 where it generates none.
    """

    terms: bytes
    signature: bytes
    body: bytes
    prices: Prices
    scrutiny: Scrutiny
    most_held: int = 4 * CREDIT
    most_uc: int | None = None
    choices: int = 1


def draft_of(request: GenerationRequest, offer: Offer, model: ModelOffer, us: Self) -> Draft:
    """The ask for a request of a model that is offered. Raises InvalidField for what cannot travel."""
    request = _within_means(request, model.prices)
    body = encode_body(body_of(request))
    most = request.stopping.max_tokens
    left_ms = LONGEST_DEADLINE_MS if request.deadline_s is None else round(1000 * request.deadline_s)
    terms = encode(
        m.AskTerms(
            network=us.network,
            provider=offer.peer,
            request=request.id[:200],
            kind=request.kind.value,
            model=model.id,
            body_sha256=sha256(body),
            body_bytes=len(body),
            prompt_tokens=min(len(body) // _CHARACTERS_PER_TOKEN, 2**32 - 1),
            max_tokens=most or 0,
            features=features(request),
            privacy=request.privacy.value,
            max_cost_uc=request.max_cost_uc or 0,
            deadline_ms=max(1, min(left_ms, LONGEST_DEADLINE_MS)),
            prices=model.prices,
        )
    )
    scrutiny = scrutiny_of(request, len(body))
    signature = us.identity.sign_for_ledger(m.terms_payload(terms))
    choices = request.choices if request.kind is Kind.GENERATE else 0
    held = 4 * CREDIT + len(request.inputs) + len(request.documents)
    return Draft(terms, signature, body, model.prices, scrutiny, held, request.max_cost_uc, choices)


def _within_means(request: GenerationRequest, prices: Prices) -> GenerationRequest:
    """The request, its answers no longer than its bound on their cost pays for: so they end as if cut to a length."""
    if request.max_cost_uc is None or request.kind is not Kind.GENERATE:
        return request
    tokens, most = affordable(needs(request), prices), request.stopping.max_tokens
    if tokens is None or (most is not None and most * request.choices <= tokens):
        return request
    stopping = msgspec.structs.replace(
        request.stopping,
        max_tokens=max(1, tokens // request.choices),
        min_tokens=min(request.stopping.min_tokens, max(1, tokens // request.choices)),
    )
    return msgspec.structs.replace(request, stopping=stopping)


class Granting(Protocol):
    """The session, as its requests see it."""

    def leave(self, outgoing: Outgoing) -> None:
        """Nothing more of a request is wanted."""

    def grant(self, number: int, tokens: int) -> None:
        """The reader of a request has room for so many more tokens."""


class Outgoing:
    """One request of a session: an iterator of its events, for one reader.

    ``receipt`` is the id under which its cost can be looked up. What would cost more than is allowed is not waited for:
    the answer ends there, as one that was cut to a length.
    """

    def __init__(self, number: int, draft: Draft, session: Granting, receipt: str = "") -> None:
        self.number = number
        self.bill = Bill(number, draft.prices, receipt)
        self.draft = draft
        self.left_at: float | None = None
        """When the reader left; the provider still closes the request."""
        self._session = session
        self._held: deque[Event] = deque()
        self._news = trio.Event()
        self._heard = self._further = trio.current_time()
        self._spoke = False
        self._answered: m.Accept | MeshnodeError | None = None
        self._closed = False
        self._read = 0
        self._finished: set[int] = set()

    # --- for the session ------------------------------------------------------------------------

    def answered(self, answer: m.Accept | MeshnodeError, now: float) -> None:
        """It was accepted, refused, or lost before either."""
        self._answered = self._answered or answer
        self._heard = now
        self._news.set()

    def alive(self, now: float) -> None:
        """The provider gave a sign."""
        self._heard = now

    def look(self, now: float) -> float:
        """Wake a reader that has waited too long for a sign; gives when to look again.

        The session looks for all its requests: a timer for each wait would be one for each token. Raises PeerHung when
        the reader left and the provider does not close the request.
        """
        if self.left_at is not None:
            if now >= self.left_at + HANG_S:
                raise PeerHung("did not close a request that was cancelled.")
            return self.left_at + HANG_S
        if now < (until := self._until):
            return until
        self._news.set()
        return now + _LOOK_S

    def put(self, event: Event, now: float) -> None:
        """Take an event. Raises ProtocolViolation for what no honest provider sends, or a plain PeerError."""
        self.draft.scrutiny.check(event)
        self._heard = now
        self.bill.note(event, now)
        if not isinstance(event, Heartbeat):
            self._further = now
            self._spoke = self._spoke or decoded_tokens(event) > 0
        if isinstance(event, ChoiceFinished):
            self._finished.add(event.choice)
        if self.left_at is None:
            self._hold(self._priced(theirs(self.draft.scrutiny.clean(event))))
            if self.draft.most_uc is not None and not self.bill.closed and self.bill.next_uc > self.draft.most_uc:
                self._stop_spending()

    def _priced(self, event: Event) -> Event:
        if not isinstance(event, Finished):
            return event
        return msgspec.structs.replace(event, charge=Charge(self.bill.receipt, self.bill.cost_uc))

    def _stop_spending(self) -> None:
        """End the answer here, for its reader and for the provider."""
        mark = self.bill.mark()
        self._session.leave(self)
        if not self._spoke:
            what = f"the prompt takes more than max_cost, which is {self.draft.most_uc} µc."
            self._held.append(
                failure(CapabilityUnavailable(what, hint="Allow more, or ask for less.", param="max_cost"))
            )
        else:
            open_ = [choice for choice in range(self.draft.choices) if choice not in self._finished]
            self._held.extend(ChoiceFinished(FinishReason.LENGTH, choice) for choice in open_)
            usage = Usage(mark.prompt + mark.cached, mark.output, mark.cached)
            self._held.append(self._priced(Finished(usage)))
        self._news.set()

    def _hold(self, event: Event) -> None:
        """Keep an event for the reader; of those that only say how things stand the newest is enough."""
        if self._held and isinstance(event, STANDING) and type(self._held[-1]) is type(event):
            self._held.pop()
        if len(self._held) >= self.draft.most_held:
            raise ProtocolViolation(f"sent over {self.draft.most_held} events ahead of its reader.")
        self._held.append(event)
        self._news.set()

    def fail(self, error: MeshnodeError) -> None:
        """The session is over."""
        self.answered(error, self._heard)
        if not self.bill.closed:
            self._held.append(failure(error))
            self._news.set()

    # --- for the reader -------------------------------------------------------------------------

    @property
    def cost_uc(self) -> int:
        """What was delivered comes to."""
        return self.bill.cost_uc

    async def accepted(self) -> None:
        """Wait for the provider's answer to the ask. Raises PeerRefused, or why there is none."""
        while self._answered is None:
            await self._wait()
        if isinstance(self._answered, MeshnodeError):
            raise self._answered

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; ends after ``Finished`` or ``Failed``. A hung provider is a ``Failed``."""
        if self._held or self._closed:
            await trio.lowlevel.checkpoint()
        if self._closed:
            raise StopAsyncIteration
        try:
            while not self._held:
                await self._wait()
        except PeerHung as error:
            self._held.append(failure(error))
        event = self._held.popleft()
        if not isinstance(event, Heartbeat):
            self._further = trio.current_time()  # what it reads late came in time
        self._closed = isinstance(event, CLOSING)
        self._give_back(decoded_tokens(event))
        return event

    async def _wait(self) -> None:
        """Until there may be news. Raises PeerHung when there was no sign of life for too long."""
        if trio.current_time() >= self._until:
            raise PeerHung("gave no sign, or got no further, for too long.", hint="Try again.")
        self._news = trio.Event()
        await self._news.wait()

    @property
    def _until(self) -> float:
        """How long a reader waits: for a sign of life, and once something was said for more of it."""
        signs = self._heard + (HANG_S if isinstance(self._answered, m.Accept) else ACCEPT_S)
        return min(signs, self._further + PROGRESS_S) if self._spoke else signs

    def _give_back(self, tokens: int) -> None:
        self._read += tokens
        if self._read >= CREDIT // 4 and not self._closed:
            self._session.grant(self.number, self._read)
            self._read = 0
