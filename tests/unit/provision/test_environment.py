"""The stamp says whether .venv is what is wanted, and never says too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.environment import UNFINISHED, Installer, Stamp, fill, is_current, read_stamp, write_stamp
from provision.faults import InstallFailed
from provision.places import Places
from provision.prerequisites import python_version
from tests.unit.provision.checkout import script, small_checkout


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = small_checkout(tmp_path)
    script(places.python, 'echo "$@" >> "$(dirname "$0")/../calls"\n')
    script(places.program, "exit 0\n")
    return places


def here(places: Places) -> Stamp:
    return Stamp(python=python_version(), checkout=str(places.checkout))


def calls(places: Places) -> list[str]:
    return (places.venv / "calls").read_text().splitlines()


def test_a_filled_environment_is_current_until_a_lock_changes(places: Places) -> None:
    stamp = fill(places, here(places), "run", {})
    assert read_stamp(places) == stamp
    assert is_current(places, stamp, "run")
    assert not is_current(places, stamp, "test")
    places.lock_file("run").write_text("run==2 --hash=sha256:00\n")
    assert not is_current(places, read_stamp(places), "run")


def test_the_tests_packages_hold_those_of_the_node(places: Places) -> None:
    stamp = fill(places, here(places), "test", {})
    assert is_current(places, stamp, "run")
    assert is_current(places, stamp, "test")


def test_everything_is_installed_by_hash_and_without_build_isolation(places: Places) -> None:
    fill(places, here(places), "run", {})
    locked = [call for call in calls(places) if " -r " in call]
    assert len(locked) == 2
    assert all("--require-hashes --no-deps --no-build-isolation" in call for call in locked)


def test_stubs_of_an_old_trio_do_not_hide_its_own_types(places: Places) -> None:
    packages = places.venv / "lib" / "python3.11" / "site-packages"
    for name in ("trio", "trio-stubs"):
        (packages / name).mkdir(parents=True)
    fill(places, here(places), "test", {})
    assert [path.name for path in packages.iterdir()] == ["trio"]


def test_an_interrupted_setup_is_not_trusted(places: Places) -> None:
    write_stamp(places, fill(places, here(places), "run", {}))
    (places.venv / UNFINISHED).touch()
    assert read_stamp(places) == Stamp()


def test_a_failed_installation_leaves_its_mark_and_says_why(places: Places) -> None:
    script(places.python, "echo ERROR: no matching distribution; exit 1\n")
    with pytest.raises(InstallFailed) as caught:
        fill(places, here(places), "run", {})
    assert any("no matching distribution" in line for line in caught.value.lines)
    assert (places.venv / UNFINISHED).exists()


def test_another_python_or_place_makes_it_anew(places: Places) -> None:
    stamp = fill(places, here(places), "run", {})
    assert not is_current(places, Stamp("3.1", stamp.checkout, stamp.locks), "run")
    assert not is_current(places, Stamp(stamp.python, "/elsewhere", stamp.locks), "run")


@pytest.mark.parametrize("text", ["", "{", '{"unknown": 1}', "[]"])
def test_a_damaged_stamp_is_no_stamp(places: Places, text: str) -> None:
    places.stamp.write_text(text)
    assert read_stamp(places) == Stamp()


def test_a_fresh_environment_has_pip(tmp_path: Path) -> None:
    places = small_checkout(tmp_path)
    Installer(places, {}, tmp_path / "log").make_venv()
    assert (places.venv / "bin" / "pip").exists()
