"""One request on its way to a peer: what is asked, what comes back, and when the peer counts as hung.

The session of :mod:`meshnode.mesh.ask` puts events in; one reader takes them out. Credit bounds what is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, NamedTuple, Protocol

import trio

from meshnode.domain import GenerationRequest
from meshnode.errors import MeshnodeError, PeerError, ProtocolViolation
from meshnode.events import Event, Failed, Finished, Heartbeat, Loading, Prefilling, Queued, decoded_tokens, failure
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
LONGEST_DEADLINE_MS: Final = 3_600_000
_CHARACTERS_PER_TOKEN: Final = 4
_MOST_HELD: Final = 4 * CREDIT
_STANDING: Final = (Queued, Loading, Prefilling, Heartbeat)


class PeerHung(PeerError):
    """A peer owes an answer and gave no sign."""


class Draft(NamedTuple):
    """A request ready to be asked for: its terms, signed, and its body."""

    terms: bytes
    signature: bytes
    body: bytes
    prices: Prices
    scrutiny: Scrutiny


def draft_of(request: GenerationRequest, offer: Offer, model: ModelOffer, us: Self) -> Draft:
    """The ask for a request of a model that is offered. Raises InvalidField for what cannot travel."""
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
            features=(),
            privacy=request.privacy.value,
            max_cost_uc=request.max_cost_uc or 0,
            deadline_ms=max(1, min(left_ms, LONGEST_DEADLINE_MS)),
            prices=model.prices,
        )
    )
    scrutiny = scrutiny_of(request, len(body))
    signature = us.identity.sign_for_ledger(m.terms_payload(terms))
    return Draft(terms, signature, body, model.prices, scrutiny)


class Granting(Protocol):
    """The session, as its requests see it."""

    def grant(self, number: int, tokens: int) -> None:
        """The reader of a request has room for so many more tokens."""


class Outgoing:
    """One request of a session: an iterator of its events, for one reader."""

    def __init__(self, number: int, draft: Draft, session: Granting) -> None:
        self.number = number
        self.bill = Bill(number, draft.prices)
        self.draft = draft
        self.left_at: float | None = None
        """When the reader left; the provider still closes the request."""
        self._session = session
        self._held: deque[Event] = deque()
        self._news = trio.Event()
        self._heard = trio.current_time()
        self._answered: m.Accept | MeshnodeError | None = None
        self._closed = False
        self._read = 0

    # --- for the session ------------------------------------------------------------------------

    def answered(self, answer: m.Accept | MeshnodeError, now: float) -> None:
        """It was accepted, refused, or lost before either."""
        self._answered = self._answered or answer
        self._heard = now
        self._news.set()

    def alive(self, now: float) -> None:
        """The provider gave a sign."""
        self._heard = now

    def put(self, event: Event, now: float) -> None:
        """Take an event. Raises ProtocolViolation for what no honest provider sends."""
        self.draft.scrutiny.check(event)
        self._heard = now
        self.bill.note(event, now)
        if self.left_at is None:
            self._hold(self.draft.scrutiny.clean(event))

    def _hold(self, event: Event) -> None:
        """Keep an event for the reader; of those that only say how things stand the newest is enough."""
        if self._held and isinstance(event, _STANDING) and type(self._held[-1]) is type(event):
            self._held.pop()
        if len(self._held) >= _MOST_HELD:
            raise ProtocolViolation(f"sent over {_MOST_HELD} events ahead of its reader.")
        self._held.append(event)
        self._news.set()

    def fail(self, error: MeshnodeError) -> None:
        """The session is over."""
        self.answered(error, self._heard)
        if not self.bill.closed:
            self._held.append(failure(error))
            self._news.set()

    # --- for the reader -------------------------------------------------------------------------

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
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise StopAsyncIteration
        try:
            while not self._held:
                await self._wait()
        except PeerHung as error:
            self._held.append(failure(error))
        event = self._held.popleft()
        self._closed = isinstance(event, Finished | Failed)
        self._give_back(decoded_tokens(event))
        return event

    async def _wait(self) -> None:
        """Until there is news. Raises PeerHung when there is no sign of life for too long."""
        patience = HANG_S if isinstance(self._answered, m.Accept) else ACCEPT_S
        self._news = trio.Event()
        while not self._news.is_set():
            with trio.move_on_at(self._heard + patience):
                await self._news.wait()
            if not self._news.is_set() and trio.current_time() >= self._heard + patience:
                raise PeerHung(f"gave no sign for {patience:g} s.", hint="Try again.")

    def _give_back(self, tokens: int) -> None:
        self._read += tokens
        if self._read >= CREDIT // 4 and not self._closed:
            self._session.grant(self.number, self._read)
            self._read = 0
