"""Where the API listens, and where it refuses to."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from meshnode.api.binds import Bind, open_sockets, plan
from meshnode.config import ApiSettings
from meshnode.errors import ConfigError, PortInUse, UnsafeBind

FILE = Path("x")


def close(opened: list[socket.socket]) -> None:
    for one in opened:
        one.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_means_both_families_the_second_where_there_is_one(host: str) -> None:
    assert plan(ApiSettings(address=f"{host}:1")) == (Bind("127.0.0.1"), Bind("::1", optional=True))


def test_one_that_is_named_is_the_only_one() -> None:
    assert plan(ApiSettings(address="[::1]:1")) == (Bind("::1"),)
    assert plan(ApiSettings(address="127.0.0.2:1")) == (Bind("127.0.0.2"),)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5", "[2001:db8::1]"])
def test_off_loopback_it_refuses_without_keys_and_tls_and_names_what_is_missing(host: str) -> None:
    with pytest.raises(UnsafeBind, match=r"api\.key_file, api\.tls_cert, api\.tls_key"):
        plan(ApiSettings(address=f"{host}:1"))
    with pytest.raises(UnsafeBind, match=r"without api\.key_file\."):
        plan(ApiSettings(address=f"{host}:1", tls_cert=FILE, tls_key=FILE))
    assert len(plan(ApiSettings(address=f"{host}:1", key_file=FILE, tls_cert=FILE, tls_key=FILE))) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ApiSettings(address="node.example:1"),
        ApiSettings(address="127.0.0.1:1", tls_cert=FILE),
        ApiSettings(address="127.0.0.1:1", tls_key=FILE),
    ],
)
def test_what_cannot_be_meant_is_a_config_error(settings: ApiSettings) -> None:
    with pytest.raises(ConfigError):
        plan(settings)


def test_both_families_get_one_free_port() -> None:
    opened = open_sockets(ApiSettings(address="127.0.0.1:0"))
    assert len({one.getsockname()[1] for one in opened}) == 1
    close(opened)


def test_a_port_in_use_is_said_with_the_command_that_takes_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            open_sockets(ApiSettings(address=f"127.0.0.1:{port}"))
    assert str(port) in caught.value.message
    assert f"--api 127.0.0.1:{port + 1}" in caught.value.hint


def test_a_port_that_another_program_has_on_the_other_family_only_is_in_use_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse):
            open_sockets(ApiSettings(address=f"127.0.0.1:{port}"))
    close(open_sockets(ApiSettings(address=f"127.0.0.1:{port}")))


def test_an_address_of_another_machine_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        open_sockets(ApiSettings(address="192.0.2.1:1", key_file=FILE, tls_cert=FILE, tls_key=FILE))


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    opened = open_sockets(ApiSettings(address="127.0.0.1:0"))
    assert [one.family for one in opened] == [socket.AF_INET]
    close(opened)
