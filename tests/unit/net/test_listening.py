"""Ports that are ours alone, and the addresses that stand for a machine."""

from __future__ import annotations

import errno
import socket

import pytest

from meshnode.errors import ConfigError, PortInUse
from meshnode.net.listening import cannot_listen, claim, spelt_out
from meshnode.net.transport import parse_listen


def test_a_free_port_can_be_claimed_again_and_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(2):
        claim(parse_listen(f"/ip4/127.0.0.1/tcp/{port}"))
    claim(parse_listen("/ip4/127.0.0.1/tcp/0"))


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "ip4"), ("::1", "ip6")])
def test_a_port_that_another_shares_out_is_taken(host: str, kind: str) -> None:
    family = socket.AF_INET6 if kind == "ip6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, 0))
        other.listen()
        with pytest.raises(PortInUse) as caught:
            claim(parse_listen(f"/{kind}/{host}/tcp/{other.getsockname()[1]}"))
    assert "--listen" in caught.value.hint


def test_an_address_of_another_machine_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"/ip4/192\.0\.2\.77/tcp/9338"):
        claim(parse_listen("/ip4/192.0.2.77/tcp/9338"))


def test_a_port_for_the_system_says_which_ports_are_not() -> None:
    error = cannot_listen(parse_listen("/ip4/0.0.0.0/tcp/80"), PermissionError(errno.EACCES, "no"))
    assert isinstance(error, ConfigError)
    assert "1024" in error.hint


def test_everywhere_is_spelt_out() -> None:
    everywhere = parse_listen("/ip4/0.0.0.0/tcp/9338")
    spelt = spelt_out(everywhere, ["192.168.1.5", "10.0.0.1", "169.254.7.7"])
    assert [str(address) for address in spelt] == ["/ip4/192.168.1.5/tcp/9338", "/ip4/10.0.0.1/tcp/9338"]
    assert [str(address) for address in spelt_out(everywhere, [])] == ["/ip4/127.0.0.1/tcp/9338"]


def test_link_local_addresses_are_nobody_elses() -> None:
    everywhere = parse_listen("/ip6/::/tcp/1")
    assert [a.host for a in spelt_out(everywhere, ["fe80::1%eth0", "2001:db8::1"])] == ["2001:db8::1"]
    assert [a.host for a in spelt_out(everywhere, ["fe80::1%eth0"])] == ["::1"]


def test_an_address_that_says_where_stays() -> None:
    one = parse_listen("/ip4/127.0.0.1/tcp/9338")
    assert spelt_out(one, ["10.0.0.1"]) == [one]
