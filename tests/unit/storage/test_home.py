"""The home: made private, checked by use, held by one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from meshnode import client, config
from meshnode.errors import DiskFull, HomeInUse, HomeUnusable
from meshnode.storage import home as home_module
from meshnode.storage.home import CONTROL_SOCKET, LONGEST_SOCKET_PATH, holder, lock, prepare

HOLD = """
import pathlib, sys
from meshnode.storage.home import lock
with lock(pathlib.Path(sys.argv[1])):
    print(1, flush=True)
    sys.stdin.read()
"""


def test_a_home_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    home = prepare(tmp_path / "a" / "b")
    assert home == tmp_path / "a" / "b"
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "models").stat().st_mode & 0o777 == 0o700


def test_a_home_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["meshnode.db", "config.toml"])
def test_a_home_is_known_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    tmp_path.chmod(0o777)
    prepare(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_other_things_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_folder_where_everybody_writes_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    tmp_path.chmod(0o1777)
    with pytest.raises(HomeUnusable, match="everybody may write"):
        prepare(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "models" / "x").write_text("kept")
    prepare(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]
    assert (tmp_path / "models" / "x").read_text() == "kept"


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(HomeUnusable, match=str(tmp_path / "file")):
            prepare(home)


def test_a_path_too_long_for_its_socket_is_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match=str(LONGEST_SOCKET_PATH)):
        prepare(tmp_path / ("x" * 120))


def test_too_little_space_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "LEAST_FREE", 1 << 60)
    with pytest.raises(DiskFull, match="Free space"):
        prepare(tmp_path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_home_of_somebody_else_is_refused_with_the_command_that_mends_it() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which other users cannot enter
        os.seteuid(65534)
        try:
            with pytest.raises(HomeUnusable, match=r"belongs to user 0.*chown"):
                prepare(Path(folder))
        finally:
            os.seteuid(0)


def test_a_second_holder_in_this_process_is_refused_by_pid(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(HomeInUse, match=rf"process {os.getpid()}\)"), lock(tmp_path):
        pytest.fail("the lock was given twice")


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with lock(tmp_path):
            assert holder(tmp_path) == str(os.getpid())
        assert holder(tmp_path) is None


def test_a_home_nobody_ever_held_has_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    assert holder(tmp_path / "none") is None


def test_a_killed_holder_holds_no_more(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(HomeInUse, match=str(process.pid)), lock(tmp_path):
            pytest.fail("the lock was given twice")
        process.kill()
        process.wait(30)
    with lock(tmp_path):
        assert holder(tmp_path) == str(os.getpid())


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(HomeUnusable), lock(tmp_path):
        pytest.fail("the link was followed")
    assert (tmp_path / "precious").read_text() == "data"


def test_a_pipe_in_the_locks_place_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(HomeUnusable, match="lock cannot be used"), lock(tmp_path):
        pass


def test_home_and_config_mean_the_same_settings() -> None:
    assert home_module.SETTINGS_FILE == config.CONFIG_FILE


def test_node_and_client_mean_the_same_socket() -> None:
    assert client.CONTROL_SOCKET == CONTROL_SOCKET
