"""Addresses: what is taken, what is refused, and that the refusal says why."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meshnode.errors import ConfigError
from meshnode.net.transport import Address, parse_address, parse_dial, parse_listen
from tests.kit.peers import ALICE

KINDS = st.one_of(
    st.tuples(st.just("ip4"), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just("ip6"), st.ip_addresses(v=6).map(str)),
    st.tuples(st.sampled_from(["dns", "dns4", "dns6"]), st.from_regex(r"\A[a-z0-9]{1,9}(\.[a-z0-9-]?[a-z]){0,3}\Z")),
)


@given(KINDS, st.integers(0, 65535), st.sampled_from([None, ALICE.peer_id]))
def test_an_address_survives_the_way_through_text(where: tuple[str, str], port: int, peer: str | None) -> None:
    text = f"/{where[0]}/{where[1]}/tcp/{port}" + (f"/p2p/{peer}" if peer else "")
    address = parse_address(text)
    assert address == Address(where[0], where[1], port, ALICE.peer_id if peer else None)
    assert str(address) == text
    assert address.dialled == f"/{where[0]}/{where[1]}/tcp/{port}"


@given(st.text(max_size=300) | st.lists(st.sampled_from(["ip4", "tcp", "1.2.3.4", "p2p", "", "9338"])).map("/".join))
def test_anything_else_is_refused_with_its_text(text: str) -> None:
    assume(not text.startswith("/ip4/1.2.3.4/tcp/9338"))
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert repr(text[:200]) in caught.value.message
    assert "/ip4/" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "looks like"),
        ("localhost:9338", "looks like"),
        ("127.0.0.1:9338", "looks like"),
        ("/ip4/127.0.0.1/udp/9338/quic-v1", "looks like"),
        ("/ip4/127.0.0.1/tcp/9338/", "looks like"),
        ("/ip4/127.0.0.256/tcp/9338", "no ip4 address"),
        ("/ip4/::1/tcp/9338", "no ip4 address"),
        ("/ip6/fe80::1%eth0/tcp/9338", "no ip6 address"),
        ("/dns4/bad_name!/tcp/9338", "no host name"),
        ("/ip4/127.0.0.1/tcp/65536", "no port"),
        ("/ip4/127.0.0.1/tcp/-1", "no port"),
        ("/ip4/127.0.0.1/tcp/٣", "no port"),
        ("/ip4/127.0.0.1/tcp/9338/ws/x", "only /p2p/"),
        ("/ip4/127.0.0.1/tcp/9338/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "peer id is wrong"),
        ("/ip4/127.0.0.1/tcp/9338/p2p/12D3", "peer id is wrong"),
    ],
)
def test_the_reason_is_named(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_address(text)


def test_listening_takes_an_ip_address_of_this_machine() -> None:
    assert parse_listen("/ip6/::/tcp/9338").unspecified
    assert parse_listen("/ip4/127.0.0.1/tcp/0").loopback
    for text in ("/dns4/example.org/tcp/9338", f"/ip4/0.0.0.0/tcp/9338/p2p/{ALICE.peer_id}"):
        with pytest.raises(ConfigError, match="listening"):
            parse_listen(text)


@pytest.mark.parametrize(
    ("text", "loopback", "unspecified"),
    [
        ("/ip4/127.8.8.8/tcp/1", True, False),
        ("/ip6/::1/tcp/1", True, False),
        ("/ip6/::ffff:127.0.0.1/tcp/1", True, False),
        ("/dns/localhost/tcp/1", True, False),
        ("/dns4/x.LOCALHOST./tcp/1", True, False),
        ("/dns4/localhost.example.org/tcp/1", False, False),
        ("/dns4/notlocalhost/tcp/1", False, False),
        ("/ip4/192.0.2.7/tcp/1", False, False),
        ("/ip6/::ffff:192.0.2.7/tcp/1", False, False),
        ("/ip4/0.0.0.0/tcp/1", False, True),
        ("/ip6/::/tcp/1", False, True),
        ("/ip6/::ffff:0.0.0.0/tcp/1", False, True),
    ],
)
def test_what_stands_for_this_machine_is_known(text: str, loopback: bool, unspecified: bool) -> None:
    address = parse_address(text)
    assert (address.loopback, address.unspecified) == (loopback, unspecified)


def test_dialling_takes_a_peer_and_a_place_that_can_be_dialled() -> None:
    text = f"/dns4/example.org/tcp/9338/p2p/{ALICE.peer_id}"
    assert parse_dial(text) == (parse_address(text), ALICE.peer_id)
    with pytest.raises(ConfigError, match="must end in /p2p/"):
        parse_dial("/ip4/192.0.2.7/tcp/9338")
    for place in ("/ip4/0.0.0.0/tcp/9338", "/ip4/192.0.2.7/tcp/0"):
        with pytest.raises(ConfigError, match="nobody can be dialled"):
            parse_dial(f"{place}/p2p/{ALICE.peer_id}")
