"""A whole network in one process: the same contract as libp2p's host, on whatever clock trio runs.

There are no threads, no sockets and no randomness in it: under a virtual clock a program gives the same trace each
time, as far as trio runs its tasks in the same order. Connections can be lost, slowed down and parted: a parted
link is silent, as a pulled cable is, and counts as lost only when it stayed silent as long as the real host would wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from meshnode.domain import PeerId
from meshnode.errors import ConfigError, Overloaded, PortInUse, ProtocolViolation, Unreachable
from meshnode.identity import Identity
from meshnode.net.addressbook import AddressBook
from meshnode.net.cable import Cable, MemoryStream, Pipe
from meshnode.net.doorkeeper import Gate, everybody, nobody
from meshnode.net.serving import Slots, serve
from meshnode.net.transport import (
    Address,
    Handler,
    Limits,
    Link,
    Stream,
    parse_address,
    parse_dial,
    parse_listen,
)

_FIRST_PORT = 20_000


@asynccontextmanager
async def open_network(*, delay_s: float = 0.0) -> AsyncIterator[MemoryNetwork]:
    """A network without hosts; ``delay_s`` is what a byte takes from one host to another."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield MemoryNetwork(nursery, delay_s)
        except Exception as error:  # raised again below: the nursery would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class MemoryNetwork:
    """The cables between hosts. Made by :func:`open_network`."""

    def __init__(self, nursery: trio.Nursery, delay_s: float) -> None:
        self._nursery = nursery
        self._delay_s = delay_s
        self._delays: dict[frozenset[PeerId], float] = {}
        self._groups: list[frozenset[PeerId]] = []
        self._cables: list[Cable] = []
        self._hosts: dict[PeerId, MemoryHost] = {}
        self._ports = _FIRST_PORT
        self.listening: dict[tuple[str, int], MemoryHost] = {}

    @asynccontextmanager
    async def open_host(
        self,
        identity: Identity,
        listen: Sequence[str],
        *,
        psk: bytes | None = None,
        announce: Sequence[str] = (),
        limits: Limits | None = None,
        admits: Callable[[str], bool] = everybody,
        blocked: Callable[[PeerId], bool] = nobody,
    ) -> AsyncIterator[MemoryHost]:
        """A host on this network; arguments and errors are those of :func:`meshnode.net.host.open_host`.

        To others it comes from where it first announces to be, or from 127.0.0.1.
        """
        if psk is not None and len(psk) != 32:
            raise ConfigError(f"The private network's key has {len(psk)} bytes.", hint="It must have 32.")
        told = [parse_address(text) for text in announce]
        wanted = [parse_listen(text) for text in listen]
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            gate = Gate(admits, blocked, trio.current_time)
            host = MemoryHost(self, identity.peer_id, nursery, psk, limits or Limits(), gate)
            self._hosts[host.peer_id] = host
            try:
                bound = self._bind(host, wanted)
                host.announced = tuple(str(address._replace(peer=host.peer_id)) for address in told or bound)
                yield host
            except Exception as error:  # as in open_network
                failure = error
            finally:
                await host.close()  # noqa: ASYNC102  it waits for nothing
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _bind(self, host: MemoryHost, addresses: Iterable[Address]) -> list[Address]:
        bound = []
        for address in addresses:
            if not address.port:
                self._ports += 1
                address = address._replace(port=self._ports)
            if (address.host, address.port) in self.listening:
                raise PortInUse(f"Another host listens on {address}.", hint="Choose another port.")
            self.listening[address.host, address.port] = host
            bound.append(address)
        return bound

    def unbind(self, host: MemoryHost) -> None:
        """Let nobody find ``host`` any more."""
        self.listening = {place: other for place, other in self.listening.items() if other is not host}

    # --- what befalls networks ------------------------------------------------------------------

    def set_delay(self, a: PeerId, b: PeerId, delay_s: float) -> None:
        """From now on a byte between ``a`` and ``b`` takes ``delay_s``."""
        self._delays[frozenset((a, b))] = delay_s

    def cut(self, a: PeerId, b: PeerId) -> None:
        """Lose what connects ``a`` and ``b``, as when a router drops it: both ends notice. They may dial again."""
        for cable in list(self._cables):
            if set(cable.ends) == {a, b}:
                self.lose(cable)

    def part(self, *groups: Iterable[PeerId]) -> None:
        """Let nothing pass between different groups, in silence. Hosts in no group reach everybody."""
        self._groups = [frozenset(group) for group in groups]
        for cable in self._cables:
            silent, was = self.parted(*cable.ends), cable.silent
            cable.set_silent(silent)
            if silent and not was:
                self._nursery.start_soon(self._lose_later, cable, cable.times_silent)

    def heal(self) -> None:
        """Undo ``part``: links that are not given up yet go on with nothing lost."""
        self.part()

    def parted(self, a: PeerId, b: PeerId) -> bool:
        """Whether nothing passes between ``a`` and ``b``."""
        mine = [group for group in self._groups if a in group]
        theirs = [group for group in self._groups if b in group]
        return bool(mine and theirs and mine != theirs)

    def delay(self, a: PeerId, b: PeerId) -> float:
        """Seconds a byte takes from ``a`` to ``b``."""
        return self._delays.get(frozenset((a, b)), self._delay_s)

    # --- used by the hosts ----------------------------------------------------------------------

    def join(self, a: MemoryHost, b: MemoryHost, address: str) -> None:
        """Connect two hosts; ``a`` dialled ``b`` at ``address``."""
        cable = Cable(a.peer_id, b.peer_id, address, lambda: self.delay(a.peer_id, b.peer_id))
        self._cables.append(cable)
        a.plug(cable, b)
        b.plug(cable, a)

    def lose(self, cable: Cable) -> None:
        """End a connection; both ends notice."""
        if cable in self._cables:
            self._cables.remove(cable)
            cable.lose()
            for peer in cable.ends:
                self._hosts[peer].unplug(cable)

    async def _lose_later(self, cable: Cable, time: int) -> None:
        limits = [self._hosts[peer].limits for peer in cable.ends]
        await trio.sleep(min(limit.keepalive_s + limit.silence_s for limit in limits))
        if cable.silent and cable.times_silent == time:
            self.lose(cable)


class MemoryHost:
    """A Transport within the process. Made by :meth:`MemoryNetwork.open_host`."""

    def __init__(
        self,
        network: MemoryNetwork,
        peer_id: PeerId,
        nursery: trio.Nursery,
        psk: bytes | None,
        limits: Limits,
        gate: Gate,
    ) -> None:
        self.limits = limits
        self.psk = psk
        self.announced: tuple[str, ...] = ()
        self._network = network
        self._peer_id = peer_id
        self._nursery = nursery
        self._cables: dict[PeerId, tuple[Cable, MemoryHost]] = {}
        self._known: dict[PeerId, str] = {}
        self._learned = AddressBook()
        self._gate = gate
        self._handlers: dict[str, Handler] = {}
        self._inbound = Slots(limits.inbound_streams)
        self._outbound = Slots(limits.outbound_streams)
        self._changed = trio.lowlevel.ParkingLot()
        self._dialling = trio.Lock()
        self._closed = False

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where we can be reached."""
        return self.announced

    @property
    def peers(self) -> frozenset[PeerId]:
        """Peers with a live connection."""
        return frozenset(self._cables)

    def link(self, peer: PeerId) -> Link | None:
        """How we are connected to ``peer``; None when we are not."""
        if peer not in self._cables:
            return None
        cable, _ = self._cables[peer]
        outbound = cable.dialler == self._peer_id
        address = cable.address if outbound else "/ip4/127.0.0.1/tcp/1"
        return Link(peer=peer, address=address, outbound=outbound, rtt_s=2 * cable.delay_s)

    async def wait_change(self, seen: frozenset[PeerId]) -> frozenset[PeerId]:
        """The connected peers, as soon as they differ from ``seen``."""
        await trio.lowlevel.checkpoint()
        while self.peers == seen:
            await self._changed.park()
        return self.peers

    async def connect(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>`` unless we are. Raises ConfigError, Unreachable."""
        target, peer = parse_dial(address)
        await self._reach(peer, [target])
        return peer

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Note addresses at which ``peer`` may be dialled."""
        self._learned.learn(peer, addresses)

    async def reach(self, peer: PeerId) -> None:
        """Connect to ``peer`` where it is known or said to be, unless we are. Raises Unreachable."""
        known = [parse_address(address)._replace(peer=None) for address in self.known(peer)]
        found = () if peer in self._cables else dict.fromkeys((*known, *self._learned.of(peer)))
        await self._reach(peer, [address for address in found if self._gate.lets_out(address.host)])

    def known(self, peer: PeerId) -> tuple[str, ...]:
        """Where ``peer`` was reached, and where it says that it listens."""
        return (self._known[peer],) if peer in self._known else ()

    async def disconnect(self, peer: PeerId) -> None:
        """Drop the connection to ``peer``."""
        await trio.lowlevel.checkpoint()
        if peer in self._cables:
            self._network.lose(self._cables[peer][0])

    @asynccontextmanager
    async def open_stream(self, peer: PeerId, protocol: str) -> AsyncIterator[Stream]:
        """A stream to ``peer``. Raises Unreachable, ProtocolViolation, Overloaded."""
        with self._outbound.hold(peer):
            await self.reach(peer)
            cable, other = self._cables[peer]
            with trio.move_on_after(self.limits.open_timeout_s) as patience:
                await cable.cross(2)
            if patience.cancelled_caught:
                raise Unreachable(f"No stream to {peer} could be opened: it took too long.")
            stream = self._negotiated(cable, other, protocol)
            try:
                yield stream
                await stream.close()
            finally:
                await stream.reset()  # noqa: ASYNC102  it waits for nothing; on a closed stream it does nothing

    def set_handler(self, protocol: str, handler: Handler) -> None:
        """Serve inbound streams of ``protocol``."""
        self._handlers[protocol] = handler

    def remove_handler(self, protocol: str) -> None:
        """Serve ``protocol`` no longer."""
        self._handlers.pop(protocol, None)

    async def ping(self, peer: PeerId) -> float:
        """Seconds to ``peer`` and back. Raises Unreachable."""
        start = trio.current_time()
        await self._reach(peer, ())
        await self._cables[peer][0].cross(2)
        return trio.current_time() - start

    async def close(self) -> None:
        """Stop listening and drop all connections. Idempotent."""
        self._closed = True
        self._network.unbind(self)
        for cable, _ in list(self._cables.values()):
            self._network.lose(cable)

    # --- used by the network --------------------------------------------------------------------

    def plug(self, cable: Cable, other: MemoryHost) -> None:
        """A connection to ``other`` is there."""
        self._cables[other.peer_id] = (cable, other)
        self._changed.unpark_all()

    def unplug(self, cable: Cable) -> None:
        """A connection is gone."""
        self._cables = {peer: pair for peer, pair in self._cables.items() if pair[0] is not cable}
        self._changed.unpark_all()

    async def _reach(self, peer: PeerId, addresses: Sequence[Address]) -> None:
        self._gate.check(peer)
        if peer == self._peer_id:
            raise Unreachable(f"{peer} is this node itself.")
        async with self._dialling:
            failure = Unreachable(f"{peer} is not connected, and no address of it is known.")
            for address in addresses:
                if peer in self._cables:
                    break
                try:
                    await self._dial(peer, address._replace(peer=None))
                except Unreachable as error:
                    failure = error
            if peer not in self._cables:
                raise failure

    async def _dial(self, peer: PeerId, address: Address) -> None:
        other = self._network.listening.get((address.host, address.port))
        if self._closed:
            raise Unreachable("This node is closing.")
        if other is not None and self._network.parted(self._peer_id, other.peer_id):
            await trio.sleep(self.limits.dial_timeout_s)
            raise Unreachable(f"{peer} did not finish shaking hands at {address}.")
        await trio.sleep(self._network.delay(self._peer_id, peer) * 4)
        if other is None or other._closed:
            raise Unreachable(f"{peer} cannot be reached at {address}: connection refused.")
        if not other._gate.lets_in(self._comes_from) or other._gate.bars(self._peer_id):
            raise Unreachable(f"{peer} cannot be reached at {address}: it keeps us out.")
        if other.psk != self.psk:
            raise Unreachable(f"{peer} cannot be reached at {address}: it is in another private network.")
        if other.peer_id != peer:
            raise Unreachable(f"{peer} cannot be reached at {address}: somebody else answers there.")
        if peer not in self._cables:  # it may have dialled us meanwhile
            self._network.join(self, other, str(address))
        self._known[peer] = str(address)
        if self.announced:
            other._known[self._peer_id] = self.announced[0]

    @property
    def _comes_from(self) -> str:
        """The IP address that others see."""
        return parse_address(self.announced[0]).host if self.announced else "127.0.0.1"

    def _negotiated(self, cable: Cable, other: MemoryHost, protocol: str) -> MemoryStream:
        if other._gate.bars(self._peer_id):
            self._network.lose(cable)
            raise Unreachable(f"The connection to {other.peer_id} was lost.")
        handler = other._handlers.get(protocol)
        if handler is None:
            raise ProtocolViolation(f"{other.peer_id} does not speak {protocol}.")
        there, here = Pipe(cable), Pipe(cable)
        theirs = MemoryStream(cable, self._peer_id, protocol, inbound=there, outbound=here)
        other._nursery.start_soon(other._serve, handler, theirs)
        return MemoryStream(cable, other.peer_id, protocol, inbound=here, outbound=there)

    async def _serve(self, handler: Handler, stream: MemoryStream) -> None:
        try:
            with self._inbound.hold(stream.peer):
                await serve(handler, stream)
        except Overloaded:
            await stream.reset()
