"""The way to a node, and what is said when nobody is there. What goes wrong at a socket: tests/unit/test_client.py."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from meshnode.client_road import Road, home_road, start_command, timeouts, translated, url_road
from meshnode.errors import ConfigError, DeadlineExceeded, MeshnodeError, NodeNotRunning


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/ "])
def test_an_address_is_taken_as_an_openai_client_has_it(end: str) -> None:
    road = url_road(f" http://127.0.0.1:9337{end}", key="k")
    assert road.options()["base_url"] == "http://127.0.0.1:9337"
    assert road.options()["headers"] == {"authorization": "Bearer k"}


@pytest.mark.parametrize("url", ["", "127.0.0.1:9337", "ftp://x", "http://", "unix:///x"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="address of a node"):
        url_road(url)


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.pem"):
        url_road("https://x", ca_file=tmp_path / "nothing.pem")
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"junk\.pem"):
        url_road("https://x", ca_file=tmp_path / "junk.pem")


def test_without_a_node_there_is_no_way(tmp_path: Path) -> None:
    with pytest.raises(NodeNotRunning, match=f"meshnode up --home {tmp_path}"):
        home_road(tmp_path)
    assert start_command(Path.home() / ".meshnode") == "meshnode up"


ROAD = Road("at http://n", "Is it running?")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("x"), NodeNotRunning),
        (httpx2.ReadError("x"), NodeNotRunning),
        (httpx2.RemoteProtocolError("x"), NodeNotRunning),
        (httpx2.ReadTimeout("x"), DeadlineExceeded),
        (ValueError("x"), ValueError),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_as_ours(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, translated(ROAD):
        raise error
    if isinstance(caught.value, MeshnodeError):
        assert "at http://n" in caught.value.message


def test_only_reading_takes_long() -> None:
    assert (timeouts(900).read, timeouts(900).connect) == (900, 30)
