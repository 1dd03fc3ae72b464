"""Formats take only what their readers take."""

from __future__ import annotations

import datetime
import ipaddress
import re
import uuid

import pytest

from meshnode.engine.constrain import formats
from meshnode.engine.constrain.matcher import Constrainer
from tests.kit.constraints import BYTES, fits, schema, written

CONSTRAINER = Constrainer(BYTES)

GOOD = {
    "date": ["2024-02-29", "1999-12-31", "2000-02-29"],
    "time": ["08:30:00Z", "23:59:59.123+01:30"],
    "date-time": ["2024-02-29T08:30:00Z", "1985-04-12T23:20:50.52Z"],
    "duration": ["P1D", "PT36H", "P4DT12H30M5S", "P2W", "P1Y2M"],
    "email": ["joe.bloggs@example.com", "a+b@mail.example.org"],
    "hostname": ["localhost", "www.example-site.com"],
    "ipv4": ["127.0.0.1", "255.255.255.255"],
    "ipv6": ["::1", "::", "2001:db8::7", "1:2:3:4:5:6:7:8"],
    "uri": ["https://example.com/a?b=c#d", "mailto:joe@example.com", "urn:isbn:0451450523"],
    "uri-reference": ["/a/b", "a/b", "", "#x", "https://example.com"],
    "uuid": ["2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    "uuid4": ["2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    "json-pointer": ["", "/a/0", "/~0~1"],
    "relative-json-pointer": ["0", "1/a", "2#"],
    "byte": ["", "aGk=", "aGV5"],
    "base64url": ["aG-_"],
    "ipvanyaddress": ["::1", "10.0.0.1"],
    "ipv4interface": ["10.0.0.1/24"],
    "ipv6interface": ["::1/128"],
}
BAD = {
    "date": ["2023-02-29", "1900-02-29", "2024-04-31", "0000-01-01", "2024-1-1", "2024-13-01"],
    "time": ["24:00:00Z", "08:30:00", "08:30:61Z"],
    "date-time": ["2024-02-30T00:00:00Z", "2024-02-29 08:30:00Z"],
    "duration": ["P", "PT", "P1", "P1D2H", "1D", "P1YT"],
    "email": ["joe", "joe@", ".joe@example.com", "a..b@example.com", "a@b..c"],
    "hostname": ["-a", "a-", "a..b", "a_b", ""],
    "ipv4": ["256.0.0.1", "1.2.3", "01.2.3.4"],
    "ipv6": [":", "1::2::3", "12345::", "1:2:3:4:5:6:7"],
    "uri": ["example.com", "//a", "http://a b", ":x"],
    "uuid": ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-01ea-b4aa-73b441d16380"],
    "json-pointer": ["a", "/~2"],
    "byte": ["a", "aG=="],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in GOOD.items() for text in texts])
def test_what_has_the_format_can_be_written(name: str, text: str) -> None:
    assert fits(CONSTRAINER.compile(schema({"type": "string", "format": name})), f'"{text}"')


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_what_has_not_cannot(name: str, text: str) -> None:
    assert not fits(CONSTRAINER.compile(schema({"type": "string", "format": name})), f'"{text}"')


@pytest.mark.parametrize("seed", range(15))
def test_what_is_written_is_read_by_those_who_know(seed: int) -> None:
    readers = {
        "date": datetime.date.fromisoformat,
        "date-time": datetime.datetime.fromisoformat,
        "ipv4": ipaddress.IPv4Address,
        "ipv6": ipaddress.IPv6Address,
        "ipv6interface": ipaddress.IPv6Interface,
        "uuid": uuid.UUID,
    }
    for name, read in readers.items():
        text = written(CONSTRAINER.compile(schema({"type": "string", "format": name})), seed)
        assert text is not None
        read(text.strip('"'))


def test_integer_formats_have_their_ranges() -> None:
    assert formats.RANGES["int32"] == (-(2**31), 2**31 - 1)
    assert formats.RANGES["uint8"] == (0, 255)


def test_every_expression_is_one_of_pythons_too() -> None:
    for name, expression in formats.EXPRESSIONS.items():
        assert all(re.fullmatch(expression, text) for text in GOOD.get(name, [])), name
    assert list(formats.names()) == sorted(formats.names())
