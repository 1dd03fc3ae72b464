"""The consumer's process: so many readers that ask one after another, and now and then leave early."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

import trio

from harness.diary import Accused, Asked, Diary, Ended, Marked, now
from harness.parties import CARD, PROVIDER, Place, Watched, WatchedBook, offer, self_of
from meshnode.domain import GenerationRequest, PeerId, RequestId, Sampling, Stopping
from meshnode.errors import MeshnodeError, Unreachable
from meshnode.events import Failed, Finished, decoded_tokens
from meshnode.mesh.ask import Asking, Desk, open_asking
from meshnode.mesh.asker import PeerRefused
from meshnode.mesh.charges import Charges
from meshnode.mesh.outgoing import Outgoing
from meshnode.net.host import Host, open_host
from meshnode.storage.database import open_threaded

PATIENCE_S: Final = 60.0
"""After so long an answer counts as one that never ended."""
PAUSE_S: Final = 0.02
CALM: Final = 0.4
"""The share of runs that ask for little and pause, so that the provider comes to countersign before it is killed."""
LONGEST_PROMPT: Final = 9000
LONGEST_ANSWER: Final = 300
SETTLE_S: Final = 30.0
QUIET: Final = 10
"""So often in a row nothing must be unconfirmed before the consumer believes that it is settled."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz     "
_PREFACE: Final = "Once upon a time, in a land where every byte is a token, " * 12


async def consume(place: Place, streams: int, seed: str) -> None:
    """Ask until SIGTERM; then end what is open, settle, and return. Only what is noted tells how it went."""
    diary, dice = Diary(place.diary, place.doom), Random(f"{seed} {place.run}")
    identity, tracked = Watched("consumer", diary), Tracked()
    calm = dice.random() < CALM
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_threaded(place.database) as database, open_host(identity, ()) as host:

            def accuse(_: PeerId, reason: str) -> None:
                diary.note(Accused(now(), reason))

            book = WatchedBook(database, identity, diary, tracked.news)
            charges = Charges(os.urandom, time.time)
            async with open_asking(Desk(self_of(identity), host, book, accuse, charges)) as asking:
                party = Party(place, host, asking, book, diary, tracked)
                async with trio.open_nursery() as nursery:
                    clients = [_Client(party, f"{place.run}.{n}", Random(dice.random()), calm) for n in range(streams)]
                    if calm:
                        nursery.start_soon(_rounds, clients)
                    for client in () if calm else clients:
                        nursery.start_soon(client.run)
                    async for _ in signals:
                        break
                    for client in clients:
                        client.stopping = True
                await _settle(party)


class Tracked:
    """Requests under way, and how far each was paid when that was last asked."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Outgoing, Marked]] = {}
        self._over: set[str] = set()

    def follow(self, request: str, outgoing: Outgoing) -> None:
        """It was accepted."""
        self._known[request] = outgoing, Marked(request, 0, 0, 0)

    def over(self, request: str) -> None:
        """Its reader is gone; it may still be paid for."""
        self._over.add(request)

    def news(self) -> list[Marked]:
        """Those paid further than when this was called last."""
        found = []
        for request, (outgoing, before) in list(self._known.items()):
            paid = outgoing.bill.paid
            mark = Marked(request, paid.prompt, paid.cached, paid.output)
            if mark != before:
                found.append(mark)
                self._known[request] = outgoing, mark
            elif request in self._over and outgoing.bill.closed and not outgoing.bill.owes:
                del self._known[request]
        return found


class Party(NamedTuple):
    """The parts of a consumer."""

    place: Place
    host: Host
    asking: Asking
    book: WatchedBook
    diary: Diary
    tracked: Tracked

    async def connect(self) -> None:
        """Be connected to the provider, wherever it is now. Raises Unreachable."""
        if self.host.link(PROVIDER.peer_id) is not None:
            return
        if not self.place.address.exists():
            raise Unreachable("The provider has never listened yet.")
        await self.host.connect(self.place.address.read_text())


class _Client:
    """One reader."""

    def __init__(self, party: Party, name: str, dice: Random, calm: bool) -> None:
        self.stopping = False
        self._party = party
        self._name = name
        self._dice = dice
        self._calm = calm
        self._count = 0

    async def run(self) -> None:
        """Ask, one request after another."""
        while not self.stopping:
            await self.once()

    async def once(self) -> None:
        """One request, and a pause if nothing came of it."""
        self._count += 1
        make = _short_request if self._calm else _request
        how = await self.ask(make(RequestId(f"{self._name}.{self._count}"), self._dice))
        if how.startswith(("refused", "failed")):
            await trio.sleep(PAUSE_S)

    async def ask(self, request: GenerationRequest) -> str:
        """One request; gives how it ended."""
        diary = self._party.diary
        diary.note(Asked(now(), request.id))
        try:
            with trio.fail_after(PATIENCE_S):
                await self._party.connect()
                how = await self._read(request)
        except trio.TooSlowError:
            how = "hung"
        except PeerRefused as error:
            how = f"refused:{error.refusal}"
        except MeshnodeError as error:
            how = f"refused:{error.code}"
        except Exception as error:
            how = f"foreign:{type(error).__name__}"
        self._party.tracked.over(request.id)
        diary.note(Ended(now(), request.id, how))
        return how

    async def _read(self, request: GenerationRequest) -> str:
        offered, heard = offer(), 0
        leave_at = self._dice.randrange(1, LONGEST_ANSWER) if self._dice.random() < 0.1 else LONGEST_ANSWER + 1
        leave_s = self._dice.random() * 0.1 if self._dice.random() < 0.1 else PATIENCE_S
        async with self._party.asking.ask(PROVIDER.peer_id, request, offered, offered.models[0]) as events:
            assert isinstance(events, Outgoing)
            self._party.tracked.follow(request.id, events)
            with trio.move_on_after(leave_s):
                async for event in events:
                    heard += decoded_tokens(event)
                    if isinstance(event, Finished):
                        return "finished"
                    if isinstance(event, Failed):
                        return f"failed:{event.code}"
                    if heard >= leave_at:
                        return "left"
                return "silent"
        return "left"


async def _rounds(clients: Sequence[_Client]) -> None:
    """All ask at the same time, and wait for each other, so that now and then nothing is open and all is paid."""
    while not any(client.stopping for client in clients):
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.once)
        await trio.sleep(PAUSE_S)


def _short_request(number: RequestId, dice: Random) -> GenerationRequest:
    """Of a few tokens."""
    return GenerationRequest(
        id=number,
        model=CARD.id,
        prompt="".join(dice.choices(_LETTERS, k=dice.randrange(1, 100))),
        sampling=Sampling(temperature=0, seed=1),
        stopping=Stopping(max_tokens=dice.randrange(1, 60), ignore_eos=True),
    )


def _request(number: RequestId, dice: Random) -> GenerationRequest:
    """Mostly short; some longer than a prefill slice, some beginning alike so that a cache helps."""
    longest = dice.choices((300, 4096, LONGEST_PROMPT), weights=(70, 15, 15))[0]
    text = "".join(dice.choices(_LETTERS, k=dice.randrange(1, longest)))
    return GenerationRequest(
        id=number,
        model=CARD.id,
        prompt=(_PREFACE if dice.random() < 0.3 else "") + text,
        sampling=Sampling(temperature=0, seed=1),
        stopping=Stopping(max_tokens=dice.randrange(1, LONGEST_ANSWER), ignore_eos=dice.random() < 0.8),
    )


async def _settle(party: Party) -> None:
    """Until all is confirmed, for a while; a greeting now and then brings back what was forgotten."""
    client = _Client(party, f"{party.place.run}.settle", Random(0), calm=True)
    with trio.move_on_after(SETTLE_S):
        while True:
            quiet = 0
            for _ in range(50):
                await trio.sleep(PAUSE_S)
                quiet = 0 if (await party.book.accounts()).spent_unconfirmed else quiet + 1
                if quiet == QUIET:
                    return
            await party.host.disconnect(PROVIDER.peer_id)
            await client.once()
