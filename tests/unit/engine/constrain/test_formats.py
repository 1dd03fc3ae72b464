"""String formats."""

from __future__ import annotations

import datetime
import ipaddress
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.formats import EXPRESSIONS, RANGES, names
from tests.kit.constrained import by_schema, fits, refusal, takes

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MATCHERS = {name: by_schema({"type": "string", "format": name}) for name in EXPRESSIONS}


def taken(name: str, text: str) -> bool:
    """Whether a string has the format."""
    return fits(MATCHERS[name], json.dumps(text, ensure_ascii=False))


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_every_moment_can_be_written(moment: datetime.datetime) -> None:
    assert taken("date-time", moment.isoformat())
    assert taken("date", moment.date().isoformat())
    assert taken("time", moment.timetz().isoformat())


@given(st.ip_addresses(), st.uuids())
def test_every_address_and_uuid_can_be_written(address: Address, name: uuid.UUID) -> None:
    assert taken(f"ipv{address.version}", str(address))
    assert taken("ipvanyaddress", str(address))
    assert taken("uuid", str(name))


@given(st.text("0123456789abcdef:.", max_size=20))
def test_nothing_else_is_an_ipv6_address(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        assert not taken("ipv6", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("email", "jo.van.der.berg+tag@mail.example.org"),
        ("hostname", "a-b.example.com"),
        ("uri", "https://example.com:8080/a/b%20c?d=e&f#g"),
        ("uri", "urn:isbn:0451450523"),
        ("uri-reference", "/a/b?c"),
        ("duration", "P1Y2M3DT4H5M6S"),
        ("duration", "P2W"),
        ("json-pointer", "/a~1b/~0/0"),
        ("relative-json-pointer", "1/a"),
        ("byte", "YWI="),
        ("uuid4", "2eb8aa08-aa98-41ea-b4aa-73b441d16380"),
        ("date", "2024-02-29"),
        ("ipv4interface", "10.0.0.0/8"),
        ("ipv6interface", "fe80::1/64"),
    ],
)
def test_what_is_one(name: str, text: str) -> None:
    assert taken(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("email", "a@b"),
        ("email", ".a@b.de"),
        ("hostname", "-a.de"),
        ("uri", "/a/b"),
        ("uri", "http://a b"),
        ("duration", "P"),
        ("duration", "PT"),
        ("json-pointer", "/~2"),
        ("byte", "YWI"),
        ("uuid", "2eb8aa08"),
        ("uuid4", "2eb8aa08-aa98-11ea-b4aa-73b441d16380"),
        ("date", "2023-02-29"),
        ("date", "2024-13-01"),
        ("time", "24:00:00Z"),
        ("time", "12:00:00"),
        ("ipv4", "1.2.3.256"),
        ("ipv4", "01.2.3.4"),
    ],
)
def test_what_is_none(name: str, text: str) -> None:
    assert not taken(name, text)


def test_whole_number_formats_are_ranges() -> None:
    assert RANGES["uint8"] == (0, 255)
    assert RANGES["int32"] == (-(2**31), 2**31 - 1)
    byte = {"type": "integer", "format": "uint8"}
    assert (takes(byte, 255), takes(byte, 256), takes(byte, -1)) == (True, False, False)


def test_an_unknown_format_is_refused_with_those_known() -> None:
    said = refusal(ConstraintKind.JSON_SCHEMA, '{"properties": {"a": {"format": "colour"}}}')
    assert "format at #/properties/a ('colour')" in said
    assert {"date", "uuid", "password", "int32", "double"} <= set(names())
