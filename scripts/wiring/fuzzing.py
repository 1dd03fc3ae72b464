"""Random and mutated bytes against everything that reads the wire: nothing but a refusal may come of them.

Each kind of case is a function of a seeded random number generator; it returns whether the bytes were taken. Whatever
else it raises than the errors that a peer's bytes may cause is a crash.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import msgspec

from meshnode.domain import FinishReason
from meshnode.errors import InvalidField, ProtocolViolation, UnknownField
from meshnode.events import ChoiceFinished, Event, Failed, Finished, Started, TextDelta, Usage
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from meshnode.wire.frames import FrameReader
from meshnode.wire.scrutiny import Scrutiny
from meshnode.wire.session import Bounds, Role, Session
from wiring import samples, vectors
from wiring.honest import Caller, End, Provider

REFUSALS: Final = (ProtocolViolation, UnknownField, InvalidField)
"""What a peer's bytes may raise."""
_EXACT: Final = ("body", "receipt", "signed receipt", "checked receipt")
_SIGNED: Final = ("checked receipt", "offers told")
_HEADERS: Final = (
    b"\x80\x81\x90\x91\x92\x9f\xa0\xa4\xc0\xc1\xc2\xc3\xc4\xc7\xca\xcb\xcc\xcd\xcf\xd0\xd3\xd6\xd9\xdc\xde\xff"
)

Case = Callable[[Random], bool]
_EVENT: Final[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)


@functools.cache
def corpus() -> tuple[tuple[str, bytes], ...]:
    """Decoder and bytes of every valid vector."""
    found = [each for group in vectors.valid().values() for each in group] + vectors.later()
    return tuple((each["decoder"], bytes.fromhex(each["hex"])) for each in found)


def mutated(data: bytes, random: Random) -> bytes:
    """The bytes with one to four changes: bits, bytes, headers, lengths, pieces cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(changed) + 1)
        end = min(len(changed), place + random.randint(1, 9))
        match random.randrange(7):
            case 0 if place < len(changed):
                changed[place] ^= 1 << random.randrange(8)
            case 1 if place < len(changed):
                changed[place] = random.choice(_HEADERS)
            case 2:
                changed[place:place] = random.randbytes(random.randint(1, 9))
            case 3:
                del changed[place:end]
            case 4:
                changed[place:place] = changed[place:end]
            case 5:
                changed[place:place] = bytes([random.choice(_HEADERS)])
            case _:
                del changed[place:]
                changed += random.randbytes(random.randint(0, 3))
    return bytes(changed)


def read(decoder: str, data: bytes) -> bool:
    """Read bytes, and check that what is taken has one spelling; False when they are refused."""
    try:
        value = vectors.DECODERS[decoder](data)
    except REFUSALS:
        return False
    if decoder == "offers told" or decoder == "checked receipt":
        return True
    again = encode(value)
    assert vectors.DECODERS[decoder](again) == value or "nan" in str(value), "what was taken changes when sent on"
    if decoder in _EXACT:
        assert again == data, "two spellings were taken for one value"
    else:
        assert msgspec.msgpack.encode(msgspec.msgpack.decode(data)) == data, "a long spelling was taken"
    return True


def garbage(random: Random) -> bool:
    """Bytes of no sense."""
    size = random.choice((0, 1, 4, 30, 200))
    data = random.randbytes(size) if random.random() < 0.5 else bytes(random.choices(_HEADERS, k=size))
    return read(random.choice(tuple(vectors.DECODERS)), data)


def near(random: Random) -> bool:
    """A valid vector, changed a little, or read as something else. What was signed must not be taken changed."""
    decoder, data = random.choice(corpus())
    if random.random() < 0.05:
        return read(random.choice(tuple(vectors.DECODERS)), data)
    changed = mutated(data, random)
    taken = read(decoder, changed)
    if taken and decoder in _SIGNED and changed != data:
        assert decoder == "offers told", "a changed receipt was taken"
    return taken


def value(random: Random, depth: int = 0) -> Any:
    """Something MessagePack can hold."""
    kinds = 8 if depth < 4 else 6
    match random.randrange(kinds):
        case 0:
            return random.choice((None, True, False))
        case 1:
            edge = 1 << random.choice((0, 7, 8, 15, 16, 31, 32, 63))
            return random.choice((edge, edge - 1, -edge, random.randrange(300)))
        case 2:
            return random.choice((0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308))
        case 3:
            return random.choice(("", "type", "TextDelta", "Finished", "text", "usage", "a\nb", "é" * 70, "x" * 600))
        case 4:
            return random.randbytes(random.choice((0, 1, 8, 16, 31, 32, 64, 300)))
        case 5:
            return msgspec.msgpack.Ext(random.randrange(-1, 3), random.randbytes(random.choice((4, 8, 12, 3))))
        case 6:
            return [value(random, depth + 1) for _ in range(random.randrange(5))]
        case _:
            return {random.choice(("type", "text", 1, b"k", None)): value(random, depth + 1) for _ in range(3)}


_FIELDS: Final = tuple((decoder, msgspec.msgpack.decode(data)) for decoder, data in corpus())


def wrong_field(random: Random) -> bool:
    """A valid vector with one value, somewhere in it, replaced by another."""
    decoder, whole = random.choice(_FIELDS)
    try:
        data = msgspec.msgpack.encode(_replaced(whole, random))
    except (TypeError, ValueError):  # a key that cannot be written
        return False
    return read(decoder, data)


def _replaced(whole: Any, random: Random) -> Any:
    if random.random() < 0.3 or not isinstance(whole, list | dict) or not whole:
        return value(random)
    if isinstance(whole, list):
        place = random.randrange(len(whole))
        return [*whole[:place], _replaced(whole[place], random), *whole[place + 1 :]]
    key = random.choice(tuple(whole))
    return whole | {key: _replaced(whole[key], random)}


def frames(random: Random) -> bool:
    """A stream of frames, cut anywhere, with a length changed now and then."""
    reader, limit = FrameReader(limit=300), 300
    sizes = [random.choice((0, 1, 5, 299, 300)) for _ in range(random.randrange(6))]
    data = bytearray(b"".join(size.to_bytes(4, "big") + bytes(size) for size in sizes))
    if data and random.random() < 0.3:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    try:
        for piece in pieces(bytes(data), random):
            for payload in reader.feed(piece):
                assert len(payload) <= limit
            assert reader.pending < limit + 4, "more than a frame is held"
    except ProtocolViolation:
        return False
    return True


def pieces(data: bytes, random: Random) -> Iterator[bytes]:
    """The bytes, cut anywhere."""
    while data:
        size = random.choice((1, 3, 17, 200, 5000))
        yield data[:size]
        data = data[size:]


def answer(random: Random) -> bool:
    """An answer with absurd events in it."""
    scrutiny, taken = Scrutiny(random.choice((1, 2)), random.choice((None, 0, 8))), True
    honest: list[Event] = [
        Started(5),
        TextDelta("abcd", 0, (1, 2)),
        ChoiceFinished(FinishReason.STOP),
        Finished(Usage(5, 2)),
    ]
    for event in honest:
        changed = event
        if random.random() < 0.5:
            wild = random.choice((*samples.EVENTS.values(), Failed("x" * 999, "\x1b[0m" * 999)))
            changed = _wild(wild, random)
        try:
            scrutiny.check(changed)
            scrutiny.clean(changed)
        except ProtocolViolation:
            return False
    return taken


def _wild(event: Event, random: Random) -> Event:
    """An event whose numbers are replaced by absurd ones, as far as its type lets them come over the wire."""
    fields = msgspec.to_builtins(event)
    for name, old in fields.items():
        if name != "type" and random.random() < 0.5 and not isinstance(old, bool | str):
            fields[name] = value(random, 3)
    try:
        return _EVENT.decode(msgspec.msgpack.encode(fields))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return event


def session(random: Random, *, steps: int = 60, damage: float = 0.02) -> bool:
    """Two honest ends on a road that damages, drops, doubles and swaps what goes over it; False when one gives up.

    An undamaged road must never make one give up.
    """
    ends: dict[Role, End] = {Role.CALLER: Caller(random, leaving=0.002), Role.PROVIDER: Provider(random, leaving=0.002)}
    roads: dict[Role, list[bytes]] = {role: [] for role in Role}
    damaged = False
    for _ in range(steps):
        role = random.choice(tuple(Role))
        try:
            if random.random() < 0.5:
                _say(ends[role], roads[role.other])
                continue
            hurt = random.random() < damage
            damaged |= hurt
            _hear(ends[role], _damaged(roads[role], random) if hurt else b"".join(roads[role]))
            roads[role].clear()
        except ProtocolViolation:
            assert damaged, "an honest end was refused"
            return False
    return True


def _say(end: End, road: list[bytes]) -> None:
    message = end.says()
    if message is not None:
        road.append(end.session.pack(message))


def _hear(end: End, data: bytes) -> None:
    for piece in pieces(data, end.random):
        for heard in end.session.receive(piece):
            end.hear(heard)
        assert end.session.pending < m.FRAME + 4, "more than a frame is held"


def _damaged(road: list[bytes], random: Random) -> bytes:
    items = list(road)
    match random.randrange(4):
        case 0 if items:
            items.append(random.choice(items))
        case 1:
            random.shuffle(items)
        case 2 if items:
            items.pop(random.randrange(len(items)))
        case _:
            return mutated(b"".join(items), random)
    return b"".join(items)


def stranger(random: Random) -> bool:
    """Messages in any order from a peer that has no idea of the protocol, after a good greeting."""
    role = random.choice(tuple(Role))
    judge, said = Session(role, Bounds(max_open=2)), list(samples.MESSAGES.values())
    ours, theirs = (samples.CALLER, samples.PROVIDER) if role is Role.CALLER else (samples.PROVIDER, samples.CALLER)
    for _ in judge.receive(framed(samples.hello(theirs))):
        judge.pack(samples.hello(ours))
        judge.pack(samples.proof(ours))
    stream = [framed(samples.proof(theirs)), *(framed(random.choice(said)) for _ in range(8))]
    try:
        for frame in stream:
            for _ in judge.receive(frame):
                pass
    except ProtocolViolation:
        return False
    return True


def framed(message: m.Message) -> bytes:
    """The frame of a message, judged by nobody."""
    payload = encode(message)
    return len(payload).to_bytes(4, "big") + payload


CASES: Final[dict[str, tuple[Case, int]]] = {
    "garbage": (garbage, 25),
    "changed vector": (near, 35),
    "changed value": (wrong_field, 25),
    "cut frames": (frames, 5),
    "absurd events": (answer, 8),
    "messages in any order": (stranger, 1),
    "damaged session": (session, 1),
}
"""Each kind of case, and how many in a hundred are of it."""
