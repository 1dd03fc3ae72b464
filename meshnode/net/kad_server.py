"""What a node of the DHT does for others: tells whom it knows, keeps their announcements, and bounds both per peer."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

from meshnode.domain import PeerId
from meshnode.errors import ProtocolViolation
from meshnode.net.addressbook import is_local
from meshnode.net.directory import ROOM, Hint, Key, parse_key
from meshnode.net.kad_table import Table, position
from meshnode.net.kad_wire import Kind, Message, Reader, encode
from meshnode.net.provider_records import Bucket, ProviderRecords, subnet_of
from meshnode.net.transport import Stream, Transport

MOST_STREAMS = 64
STREAMS_PER_PEER = 8
_QUESTIONS_PER_S, _QUESTIONS_AT_ONCE = 50.0, 500
_ANNOUNCEMENTS_PER_S, _ANNOUNCEMENTS_AT_ONCE = 1.0, 10
_GREETED_AGAIN_S = 60.0


class _Guest:
    """What a peer has taken of us, and when it was last asked itself."""

    def __init__(self) -> None:
        self.streams = 0
        self.questions = Bucket(_QUESTIONS_PER_S, _QUESTIONS_AT_ONCE)
        self.announcements = Bucket(_ANNOUNCEMENTS_PER_S, _ANNOUNCEMENTS_AT_ONCE)
        self.greeted = float("-inf")


class Server:
    """The serving side. ``ours`` gives our own record under a key, ``greet`` asks a stranger whether he serves too."""

    def __init__(
        self,
        host: Transport,
        table: Table,
        records: ProviderRecords,
        ours: Callable[[Key], Hint | None],
        greet: Callable[[PeerId], None],
        idle_s: float,
    ) -> None:
        self._host = host
        self._table = table
        self._records = records
        self._ours = ours
        self._greet = greet
        self._idle_s = idle_s
        self._guests: dict[PeerId, _Guest] = {}
        self._serving: set[trio.CancelScope] = set()
        self._stopped = False

    def stop(self) -> None:
        """Serve nobody any more; streams that are being served are reset."""
        self._stopped = True
        for scope in self._serving:
            scope.cancel()

    def meet(self, peer: PeerId) -> None:
        """Greet ``peer``, but not twice in a minute."""
        guest = self._guest(peer)
        if not self._stopped and trio.current_time() - guest.greeted > _GREETED_AGAIN_S:
            guest.greeted = trio.current_time()
            self._greet(peer)

    def forget(self, connected: Collection[PeerId]) -> None:
        """Keep no account of peers other than ``connected``."""
        self._guests = {peer: one for peer, one in self._guests.items() if one.streams or peer in connected}

    async def serve(self, stream: Stream) -> None:
        """Answer a peer's messages on one stream until it ends, breaks a rule, or stands still."""
        guest = self._guest(stream.peer)
        if self._stopped or guest.streams >= STREAMS_PER_PEER or len(self._serving) >= MOST_STREAMS:
            await stream.reset()
            return
        guest.streams += 1
        scope = trio.CancelScope()
        self._serving.add(scope)
        try:
            with scope:
                await self._converse(stream, guest)
                return
            await stream.reset()
        finally:
            self._serving.discard(scope)
            guest.streams -= 1

    async def _converse(self, stream: Stream, guest: _Guest) -> None:
        if self._table.get(stream.peer) is None:
            self.meet(stream.peer)
        reader = Reader(stream, local=is_local(self._host, stream.peer))
        while True:
            with trio.move_on_after(self._idle_s) as patience:
                message = await reader.next()
                answer = None if message is None else self._answer(stream.peer, guest, message)
                if answer is None:
                    return
                await stream.write(encode(answer))
            if patience.cancelled_caught:
                await stream.reset()
                return

    def _guest(self, peer: PeerId) -> _Guest:
        return self._guests.setdefault(peer, _Guest())

    def _answer(self, peer: PeerId, guest: _Guest, message: Message) -> Message | None:
        """The answer to one message; None ends the stream without one. Raises ProtocolViolation."""
        if not guest.questions.take(trio.current_time()):
            return None
        if message.kind is Kind.PING:
            return Message(kind=Kind.PING)
        if not message.key:
            raise ProtocolViolation(f"{peer} asks the DHT for an empty key.")
        key = parse_key(message.key)
        if message.kind is Kind.ADD_PROVIDER:
            accepted = key is not None and self._accept(peer, guest, key, message)
            return Message(kind=Kind.ADD_PROVIDER, key=message.key) if accepted else None
        closest = [one for one in self._table.closest(position(message.key)) if one.peer != peer and one.addresses]
        return Message(
            kind=message.kind,
            key=message.key,
            closer=tuple(Hint(peer=one.peer, addresses=one.addresses) for one in closest),
            providers=self._providers(key) if message.kind is Kind.GET_PROVIDERS and key is not None else (),
        )

    def _accept(self, peer: PeerId, guest: _Guest, key: Key, message: Message) -> bool:
        """Keep what a peer announces of itself, and of itself only. Raises ProtocolViolation."""
        if [hint.peer for hint in message.providers] != [peer]:
            raise ProtocolViolation(f"{peer} announces somebody else in the DHT.")
        now = trio.current_time()
        link = self._host.link(peer)
        subnet = subnet_of(link.address) if link is not None else None
        return guest.announcements.take(now) and self._records.add(key, message.providers[0], subnet, now)

    def _providers(self, key: Key) -> tuple[Hint, ...]:
        ours = self._ours(key)
        hints = self._records.get(key, trio.current_time())
        return hints if ours is None else (ours, *hints)[:ROOM]
