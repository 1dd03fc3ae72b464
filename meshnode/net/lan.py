"""Peers on the same link, found without anybody's help: DNS-SD over multicast DNS (RFC 6763, RFC 6762).

The only door to zeroconf, which runs an event loop and a thread of its own: all of it is called from worker threads,
what it hears hops over to trio one valid record at a time, and it is closed within bounds when the block is left.

What is announced of a node: its peer id, its network's tag, and the addresses of interfaces on which it listens.
Nothing that is heard is proved: it only says where to dial, and the dial proves who is there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio
from zeroconf import InterfaceChoice, IPVersion, ServiceInfo, ServiceListener, Zeroconf

from meshnode.domain import PeerId
from meshnode.errors import ConfigError
from meshnode.net.addressbook import MOST_ADDRESSES
from meshnode.net.quiet import quieten
from meshnode.net.transport import Address, parse_address, parse_dial

log = structlog.get_logger()

SERVICE: Final = "_meshnode._tcp.local."
QUEUE: Final = 64
"""Addresses that wait to be read; those that come when it is full are dropped."""
REPEAT_S: Final = 60.0
"""An address is not given twice within so many seconds."""
CLOSE_S: Final = 5.0
"""What leaving the block may wait for zeroconf; it takes 0.3 s to say goodbye."""
_MOST_SEEN = 1024
_TAG = re.compile(r"[0-9a-f]{16,40}")


@asynccontextmanager
async def open_lan(peer_id: PeerId, addresses: Sequence[str], network_tag: str) -> AsyncIterator[Lan]:
    """Announce this node, and look for others of the same network, as long as the block lasts.

    ``addresses`` are multiaddrs as ``Transport.addresses`` gives them. With none nothing is announced. When all are of
    loopback everything stays on loopback; else loopback is left out, as are link-local addresses, host names and
    ``0.0.0.0``. ``network_tag`` is 16 to 40 hexadecimal digits of a hash: anybody on the link can read it.

    Where there is no multicast, or no interface, that is one line in the log and nobody is found.
    Raises ConfigError (an address is none), and ValueError when the tag is none: a name or a key must not get out.
    """
    if not _TAG.fullmatch(network_tag):
        raise ValueError("a network's tag is 16 to 40 hexadecimal digits of a hash")
    lan = Lan(peer_id, addresses, network_tag)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lan.run)
        try:
            yield lan
        except Exception as error:  # raised again below: the nursery would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Lan:
    """What is found on the link. Made by :func:`open_lan`."""

    found: trio.MemoryReceiveChannel[str]
    """Whole multiaddrs (``…/p2p/<id>``) of peers of the same network, as they appear or change."""

    def __init__(self, peer_id: PeerId, addresses: Sequence[str], network_tag: str) -> None:
        self._peer_id = peer_id
        self._addresses = addresses
        self._tag = network_tag
        self._only_loopback = stays_here(addresses)
        self._seen: dict[str, float] = {}
        self._send, self.found = trio.open_memory_channel[str](QUEUE)
        self.dropped = 0
        """Addresses that were lost because nobody read the ones before."""

    async def run(self) -> None:
        """Announce and listen until cancelled; then say goodbye and end zeroconf's threads."""
        token = trio.lowlevel.current_trio_token()

        def hear(properties: Mapping[bytes, bytes | None]) -> None:
            """Called in a thread of zeroconf's."""
            addresses = told(properties, self._tag, self._peer_id, only_loopback=self._only_loopback)
            if addresses:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(self.note, addresses)

        radio = _Radio(hear)
        about = describe(self._peer_id, self._addresses, self._tag)
        try:
            await trio.to_thread.run_sync(radio.start, about, self._only_loopback, abandon_on_cancel=True)
            await trio.sleep_forever()
        finally:
            self._send.close()
            with trio.move_on_after(CLOSE_S, shield=True):
                await trio.to_thread.run_sync(radio.close, abandon_on_cancel=True)

    def note(self, addresses: Sequence[str]) -> None:
        """Hand over what was not given lately, as far as there is room. Called in trio's thread."""
        now = trio.current_time()
        for address in addresses:
            if now - self._seen.get(address, float("-inf")) < REPEAT_S:
                continue
            try:
                self._send.send_nowait(address)
            except trio.WouldBlock:
                self.dropped += 1
                continue
            except (trio.ClosedResourceError, trio.BrokenResourceError):  # heard while it was being closed
                return
            self._seen.pop(address, None)
            self._seen[address] = now
            if len(self._seen) > _MOST_SEEN:
                del self._seen[next(iter(self._seen))]


class _Radio:
    """zeroconf, as far as we use it. Both methods block, and neither raises."""

    def __init__(self, hear: Callable[[Mapping[bytes, bytes | None]], None]) -> None:
        self._hear = hear
        self._zeroconf: Zeroconf | None = None
        self._closed = False
        self._lock = threading.Lock()  # closing waits for a start under way: zeroconf cannot be closed in the middle

    def start(self, about: ServiceInfo | None, only_loopback: bool) -> None:
        """Open the sockets, browse, announce."""
        quieten(logging.getLogger("zeroconf"))
        with self._lock:
            if self._closed:
                return
            try:
                self._zeroconf = _tune_in(only_loopback)
                self._zeroconf.add_service_listener(SERVICE, _Listener(self._hear))
                if about is not None:
                    # the name is the peer id's: that another program claims it must not keep us from announcing it
                    self._zeroconf.register_service(about, cooperating_responders=True)
            except Exception as error:
                log.warning("lan_discovery_off", reason=f"{type(error).__name__}: {error}"[:200])

    def close(self) -> None:
        """Say goodbye and end the threads."""
        with self._lock:
            self._closed = True
            if self._zeroconf is not None:
                try:
                    self._zeroconf.close()
                except Exception as error:
                    log.warning("lan_discovery_stuck", reason=type(error).__name__)


def _tune_in(only_loopback: bool) -> Zeroconf:
    if only_loopback:
        return Zeroconf(interfaces=["127.0.0.1"])
    try:
        return Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)
    except OSError:  # a system without IPv6
        return Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)


class _Listener(ServiceListener):
    """Takes announcements out of zeroconf's cache: each comes whole in one packet, so nothing more is asked."""

    def __init__(self, hear: Callable[[Mapping[bytes, bytes | None]], None]) -> None:
        self._hear = hear

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody is there."""
        try:
            info = ServiceInfo(type_, name)
            info.load_from_cache(zc)
            self._hear(info.properties)
        except Exception as error:  # whatever a stranger sent, the thread that calls must live
            log.debug("lan_record_ignored", error=type(error).__name__)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody's addresses changed, or came after the name."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody left: the connection will tell."""


# --- what is said, and what is believed -----------------------------------------------------------


def stays_here(addresses: Sequence[str]) -> bool:
    """Whether a node that listens on ``addresses`` listens on loopback alone."""
    return bool(addresses) and all(address.loopback for address in _parsed(addresses))


def describe(peer_id: PeerId, addresses: Sequence[str], tag: str) -> ServiceInfo | None:
    """The records of this node: TXT says ``id``, ``net`` and ``a0`` … ``a7``. None when nobody could dial it."""
    only_loopback = stays_here(addresses)
    tellable = [each for each in _parsed(addresses) if _dialable(each, only_loopback=only_loopback)][:MOST_ADDRESSES]
    if not tellable:
        return None
    properties = {"id": str(peer_id), "net": tag, **{f"a{n}": each.dialled for n, each in enumerate(tellable)}}
    return ServiceInfo(
        SERVICE,
        f"{peer_id}.{SERVICE}",
        port=tellable[0].port,
        properties=properties,
        server=f"{peer_id}.local.",
        parsed_addresses=list(dict.fromkeys(each.host for each in tellable)),
    )


def told(
    properties: Mapping[bytes, bytes | None], tag: str, me: PeerId, *, only_loopback: bool = False
) -> tuple[str, ...]:
    """Where the peer that these TXT records speak of can be dialled; empty for garbage, strangers and ourselves.

    Loopback addresses are believed only where nothing but loopback is listened to: from elsewhere they would make us
    dial this machine's own services. Host names are not looked up.
    """
    if properties.get(b"net") != tag.encode():
        return ()
    found = []
    for number in range(MOST_ADDRESSES):
        try:
            text = f"{_text(properties, f'a{number}')}/p2p/{_text(properties, 'id')}"
            address, peer = parse_dial(text)
        except (ConfigError, UnicodeDecodeError):
            continue
        if peer != me and _dialable(address, only_loopback=only_loopback):
            found.append(str(address))
    return tuple(dict.fromkeys(found))


def _text(properties: Mapping[bytes, bytes | None], key: str) -> str:
    return (properties.get(key.encode()) or b"").decode("ascii")


def _parsed(addresses: Sequence[str]) -> list[Address]:
    return [parse_address(text) for text in addresses]


def _dialable(address: Address, *, only_loopback: bool) -> bool:
    """Whether another node on the link could dial it."""
    if address.kind not in ("ip4", "ip6") or not address.port:
        return False
    ip = ipaddress.ip_address(address.host)
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or getattr(ip, "ipv4_mapped", None):
        return False
    return ip.is_loopback == only_loopback
