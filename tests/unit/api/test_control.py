"""The control socket's file and its door-keeper."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from meshnode.api.control import control_listener, may_control, peer_uid
from meshnode.errors import HomeInUse, HomeUnusable


def test_it_is_the_owners_alone_and_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_listener(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.is_socket()
    assert not path.exists()


def test_one_left_by_a_node_that_died_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with control_listener(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_one_that_answers_is_another_nodes(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_listener(path):
        with pytest.raises(HomeInUse), control_listener(path):
            pass
        assert path.is_socket()


def test_what_is_no_socket_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(HomeUnusable), control_listener(path):
        pass
    assert path.read_text() == "mine"


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_listener(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.is_socket()


def test_a_path_too_long_for_the_system_is_said(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="--home"), control_listener(tmp_path / ("x" * 120)):
        pass


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable), control_listener(tmp_path / "none" / "control.sock"):
        pass


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert peer_uid(one) == os.getuid()


def test_root_and_the_owner_may_and_others_may_not() -> None:
    assert [may_control(uid, 1000) for uid in (0, 1000, 1001, None)] == [True, True, False, True]
