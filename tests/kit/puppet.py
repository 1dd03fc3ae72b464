"""An end of ``/meshnode/infer/1`` that says whatever a test wants, in or out of order."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from meshnode.domain import GenerationRequest, PeerId
from meshnode.identity import Identity
from meshnode.net.transport import Stream, Transport
from meshnode.wire import messages as m
from meshnode.wire.body import body_of, encode_body
from meshnode.wire.canonical import encode
from meshnode.wire.frames import FrameReader, pack
from meshnode.wire.messages import AskTerms
from meshnode.wire.receipt import (
    NO_PREVIOUS,
    Receipt,
    SignedReceipt,
    consumer_payload,
    encode_signed,
)
from tests.kit.offers import NETWORK


class Puppet:
    """One stream; what it says is judged by nobody here."""

    def __init__(self, identity: Identity, stream: Stream, *, caller: bool) -> None:
        self.identity = identity
        self.stream = stream
        self.caller = caller
        self.theirs: m.Hello | None = None
        self._reader = FrameReader(limit=m.FRAME)
        self._heard: deque[m.Message] = deque()
        self._spent = (0, 0, 0, 0)
        self._seq = 0

    async def say(self, *messages: m.Message) -> None:
        """Send messages, each in its frame."""
        await self.stream.write(b"".join(pack(encode(message), limit=m.FRAME) for message in messages))

    async def hear(self) -> m.Message:
        """The next message but heartbeats. Raises what the stream raises; EOFError at its end."""
        while True:
            while not self._heard:
                data = await self.stream.read()
                if not data:
                    raise EOFError
                self._heard += [m.decode(payload) for payload in self._reader.feed(data)]
            message = self._heard.popleft()
            if not isinstance(message, m.Beat):
                return message

    async def greet(self, *, network: bytes = NETWORK, max_open: int = 64) -> m.Hello:
        """Introduce itself honestly; gives the other's hello."""
        nonce = b"n" * 16
        await self.say(m.Hello(m.VERSION, network, self.identity.ledger_public, nonce, "puppet", max_open))
        hello = await self.hear()
        assert isinstance(hello, m.Hello)
        mine, theirs = self.identity.peer_id, self.stream.peer
        bond = m.bond(
            caller=mine if self.caller else theirs,
            provider=theirs if self.caller else mine,
            caller_nonce=nonce if self.caller else hello.nonce,
            provider_nonce=hello.nonce if self.caller else nonce,
            ledger=self.identity.ledger_public,
        )
        await self.say(m.Proof(self.identity.sign_for_ledger(bond)))
        assert isinstance(await self.hear(), m.Proof)
        self.theirs = hello
        return hello

    def ask(self, number: int, terms: AskTerms, *, credit: int = 256) -> m.Ask:
        """An ask signed as it should be."""
        data = encode(terms)
        return m.Ask(number, data, self.identity.sign_for_ledger(m.terms_payload(data)), credit)

    @staticmethod
    def body(number: int, request: GenerationRequest) -> m.Body:
        """A whole body."""
        return m.Body(number, encode_body(body_of(request)), last=True)

    def tick(self, marks: Sequence[m.Mark], uc: int, *, prompt: int, output: int, requests: int = 0) -> m.Tick:
        """A tick that adds these to the channel's totals, rightly signed."""
        assert self.theirs is not None
        spent = tuple(a + b for a, b in zip(self._spent, (uc, prompt, output, requests), strict=True))
        self._spent = (spent[0], spent[1], spent[2], spent[3])
        self._seq += 1
        receipt = Receipt(
            network=NETWORK,
            consumer=self.identity.ledger_public,
            provider=self.theirs.ledger,
            chan=7,
            seq=self._seq,
            cum_uc=spent[0],
            cum_in=spent[1],
            cum_out=spent[2],
            n_req=spent[3],
            day=20_000,
            prev=NO_PREVIOUS,
        )
        body = encode(receipt)
        signed = SignedReceipt(body, self.identity.sign_for_ledger(consumer_payload(body)))
        return m.Tick(encode_signed(signed), tuple(marks))


@asynccontextmanager
async def calling(identity: Identity, transport: Transport, peer: PeerId) -> AsyncIterator[Puppet]:
    """A caller's end, not yet greeted."""
    async with transport.open_stream(peer, m.PROTOCOL) as stream:
        yield Puppet(identity, stream, caller=True)


class Answering:
    """A provider made of puppets: each session's is given to the test, which ends it by setting ``done``."""

    def __init__(self, identity: Identity, transport: Transport) -> None:
        self.done = trio.Event()
        self._identity = identity
        self._send, self._receive = trio.open_memory_channel[Puppet](8)
        transport.set_handler(m.PROTOCOL, self._handle)

    async def session(self) -> Puppet:
        """The next session, greeted."""
        return await self._receive.receive()

    async def _handle(self, stream: Stream) -> None:
        puppet = Puppet(self._identity, stream, caller=False)
        await puppet.greet()
        await self._send.send(puppet)
        await self.done.wait()
