"""Who asks."""

from __future__ import annotations

import pytest

from meshnode.domain import OWNER
from meshnode.errors import Unauthorized
from meshnode.gateway.keys import hash_of, new_key, parse_keys
from meshnode.gateway.principal import Door, administrator, bearer, key_of, user

KEY = new_key(bytes(32))
RING = parse_keys(hash_of(KEY))


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer  ", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("abc", None),
    ],
)
def test_the_token_of_a_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer b"}, "b"),
        ({"x-api-key": "x", "api-key": "a", "authorization": "Bearer b"}, "x"),
        ({"api-key": "a", "authorization": "Bearer b"}, "a"),
        ({"x-api-key": " ", "authorization": "Bearer b"}, "b"),
    ],
)
def test_the_key_of_a_request(headers: dict[str, str], key: str | None) -> None:
    assert key_of(headers) == key


@pytest.mark.parametrize("token", [None, "wrong", KEY])
def test_on_loopback_everybody_is_the_owner_and_no_administrator(token: str | None) -> None:
    principal = user(Door.LOOPBACK, token, keys=RING, admin_token="t", local_key=False)
    assert principal == (OWNER, False)


def test_from_outside_only_holders_of_keys() -> None:
    principal = user(Door.OUTSIDE, KEY, keys=RING, admin_token="t", local_key=False)
    assert principal.caller == RING.holder(KEY)
    for token in (None, "", "wrong", KEY[:-1]):
        with pytest.raises(Unauthorized):
            user(Door.OUTSIDE, token, keys=RING, admin_token="t", local_key=False)


def test_administrators_come_by_the_control_socket_or_with_the_token() -> None:
    assert administrator(Door.CONTROL, None, admin_token="t").admin
    assert administrator(Door.LOOPBACK, "t", admin_token="t").admin
    for door, token, expected in ((Door.LOOPBACK, None, "t"), (Door.LOOPBACK, "", ""), (Door.OUTSIDE, "é", "t")):
        with pytest.raises(Unauthorized):
            administrator(door, token, admin_token=expected)
