"""Conversations that the node remembers for who asks it to, by a name of the caller's own.

The name may say something about people, so that not even it stands on the disk: an object's id is its hash.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
import trio

from meshnode.domain import CallerId, Message, Record
from meshnode.errors import InvalidField, NotFound
from meshnode.gateway.conversation import continued, grown, spoken
from meshnode.gateway.job import Job
from meshnode.storage.vault import Item, Vault, absent

KIND: Final = "session"
"""What sessions are in the vault."""
MOST_BYTES: Final = 4 << 20
"""Size from which on a session takes no more turns: no model reads as much."""


class Session(Record, frozen=True):
    """What was said, times in seconds since 1970."""

    messages: tuple[Message, ...] = ()
    created: int = 0
    expires: int = 0


class Sessions:
    """The sessions of everybody, each seen only by its principal."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._adding = trio.Lock()

    async def session(self, principal: CallerId, name: str) -> Session:
        """The session of that name. Raises NotFound."""
        try:
            item = await self._vault.get(principal, KIND, _id(name))
            messages = msgspec.msgpack.decode(item.data, type=tuple[Message, ...])
        except (NotFound, msgspec.DecodeError):
            raise absent(KIND, name) from None
        return Session(messages=messages, created=item.created, expires=item.expires)

    async def delete(self, principal: CallerId, name: str) -> None:
        """Forget it. Raises NotFound."""
        try:
            await self._vault.delete(principal, KIND, _id(name))
        except NotFound:
            raise absent(KIND, name) from None

    async def continued(self, principal: CallerId, name: str, sent: tuple[Message, ...]) -> tuple[Message, ...]:
        """The conversation with what was sent. Raises InvalidField when it is too long."""
        history = await self._history(principal, name)
        if (size := len(msgspec.msgpack.encode(history))) > MOST_BYTES:
            raise InvalidField(
                f"session_id: this session holds {size} bytes; at most {MOST_BYTES} can be continued.",
                hint="Begin another, or delete it: DELETE /v1/sessions/ID.",
                param="session_id",
            )
        return continued(history, sent)

    async def add(self, job: Job) -> None:
        """Remember one more exchange: the job's request, which has what went before it, and its answer."""
        name = job.request.session
        if name is None:
            return
        said = (*job.request.messages, spoken(job.events))
        async with self._adding:
            data = msgspec.msgpack.encode(grown(await self._history(job.principal, name), said))
            await self._vault.put(Item(principal=job.principal, kind=KIND, id=_id(name), data=data))

    async def _history(self, principal: CallerId, name: str) -> tuple[Message, ...]:
        try:
            return (await self.session(principal, name)).messages
        except NotFound:
            return ()


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
