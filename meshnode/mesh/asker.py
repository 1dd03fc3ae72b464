"""What dispatching needs of whoever asks peers: one answer of one peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from meshnode.domain import GenerationRequest, PeerId
from meshnode.errors import MeshnodeError, OwnerError, PeerError
from meshnode.events import Event, Failed, kind_of
from meshnode.wire.messages import Refuse
from meshnode.wire.offer import ModelOffer, Offer


class PeerRefused(PeerError):
    """A peer did not accept a request; ``refusal`` is the code it gave, ``alternates`` whom it named instead."""

    code = "peer_refused"

    def __init__(self, refuse: Refuse) -> None:
        wait = refuse.retry_after_ms / 1000 if refuse.retry_after_ms else None
        super().__init__(refuse.reason or refuse.code, retry_after_s=wait)
        self.refusal = refuse.code
        self.alternates = tuple(PeerId(peer) for peer in refuse.alternates)


class PeerHung(PeerError):
    """A peer owes us something and gave no sign. It may sleep, or be far away: no fault of its, and no violation."""


class Costing(Protocol):
    """Events of one answer, and what they have cost so far, in micro-credits."""

    @property
    def cost_uc(self) -> int:
        """What was delivered comes to."""

    def __aiter__(self) -> AsyncIterator[Event]: ...
    async def __anext__(self) -> Event: ...


class Asker(Protocol):
    """Asks peers; :class:`meshnode.mesh.ask.Asking` is one."""

    def ask(
        self, peer: PeerId, request: GenerationRequest, offer: Offer, model: ModelOffer
    ) -> AbstractAsyncContextManager[Costing]:
        """One answer by ``peer``, under its ``offer``; ``request.deadline_s`` is what is left.

        Entering connects if need be and waits until the peer accepts. Raises PeerRefused or another PeerError, or a
        RequestError for what cannot travel. Iterating gives events, closed by one ``Finished`` or ``Failed``. Leaving
        the block cancels what is under way.

        It is entered inside one cancel scope and left outside of it: no nursery or cancel scope of its own may be open
        between the two.
        """


def meant(error: MeshnodeError) -> MeshnodeError:
    """What an error of asking a peer says: a refusal is the error that its code names.

    A code that no class of the tree has is PeerError's: a peer's own words are no label. So is one that speaks of this
    machine, which no peer knows anything of.
    """
    if not isinstance(error, PeerRefused):
        return error if kind_of(error.code) is not None else PeerError(error.message, retry_after_s=error.retry_after_s)
    kind = kind_of(error.refusal)
    if kind is None or issubclass(kind, OwnerError):
        kind = PeerError
    return kind(error.message, hint=error.hint, param=error.param, retry_after_s=error.retry_after_s)


def theirs(event: Event) -> Event:
    """An event as a peer may have sent it: a failure that speaks of this machine is no more than the peer's own."""
    if isinstance(event, Failed) and (kind := kind_of(event.code)) is not None and issubclass(kind, OwnerError):
        return msgspec.structs.replace(event, code=PeerError.code)
    return event
